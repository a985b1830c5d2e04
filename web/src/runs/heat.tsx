// How evenly experts were used: a picture of rows (experts, by layer) over time, or the same as tables.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { theme } from "../app/theme";
import { number } from "../i18n/format";
import { language } from "../i18n/index";
import { type Column, Table } from "../ui/index";
import type { RunData } from "./data";
import { colourOf } from "./drawing";
import { type Moment, loads, parts, times } from "./loads";
import { words } from "./words";

const SHADES = 12;
/** From here on a share is drawn as the fullest: a multiple of the even one. */
const TOP = 2;
const MOST_ROWS = 512;
/** Width of the names of layers, of the narrowest column, and room between layers; in pixels. */
const [LABEL, NARROWEST, GAP] = [64, 6, 10];
/** So many parts of the time have a column in a table. */
const TABLE_COLUMNS = 6;

export function Heat({ data, stage, how }: { data: RunData; stage: string | null; how: "charts" | "tables" }) {
  const version = data.version.value;
  const all = useMemo(() => loads(data, stage), [data, stage, version, language.value]);
  const rows = (all[0]?.layers ?? []).reduce((sum, layer) => sum + layer.length, 0);
  if (rows === 0 || rows > MOST_ROWS) return null;
  return how === "charts" ? <Picture all={all} rows={rows} /> : <Numbers all={all} />;
}

function Numbers({ all }: { all: readonly Moment[] }) {
  const say = words.value;
  const some = parts(all, TABLE_COLUMNS);
  return (
    <section class="stack">
      <h2>{say.load}</h2>
      <p class="muted fine">{say.load_numbers}</p>
      <div class="curves">
        {(all[0]?.layers ?? []).map((layer, at) => {
          const columns: Column<number>[] = [
            { head: say.expert, cell: (expert) => number(expert + 1), as: "name" },
            ...some.map(({ label, layers }) => ({
              head: label,
              cell: (expert: number) => times(layers[at]?.[expert] ?? 0, layer),
              as: "number" as const,
            })),
          ];
          const label = `${say.load}, ${say.layer(number(at + 1))}`;
          return <Table key={at} label={label} hasCaption rows={layer.map((_, expert) => expert)} columns={columns} id={(expert) => expert} />;
        })}
      </div>
    </section>
  );
}

/** Where rows are: their height, and where each layer begins. */
type Layout = { row: number; tops: number[]; height: number };

function layoutOf(layers: readonly number[][], rows: number): Layout {
  const row = rows > 128 ? 2 : rows > 48 ? 4 : rows > 24 ? 7 : 9;
  let top = 0;
  const tops = layers.map((layer) => (top += layer.length * row + GAP) - layer.length * row - GAP);
  return { row, tops, height: top - GAP };
}

function draw(canvas: HTMLCanvasElement, columns: readonly Moment[], { row, tops, height }: Layout, width: number): void {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const muted = colourOf("--muted");
  const shades = Array.from({ length: SHADES + 1 }, (_, shade) => colourOf(`--heat-${shade}`));
  const wide = (width - LABEL) / columns.length;
  columns.forEach(({ layers }, place) => {
    const left = LABEL + place * wide;
    layers.forEach((layer, at) => {
      layer.forEach((share, expert) => {
        const shade = Math.round(Math.min(1, Math.max(0, (share * layer.length) / TOP)) * SHADES);
        pen.fillStyle = shades[shade] ?? muted;
        pen.fillRect(left, (tops[at] ?? 0) + expert * row, Math.ceil(left + wide) - left, row - (row > 3 ? 1 : 0));
      });
    });
  });
  pen.fillStyle = muted;
  columns[0]?.layers.forEach((layer, at) => {
    pen.fillText(words.value.layer(number(at + 1)), 0, (tops[at] ?? 0) + (layer.length * row) / 2);
  });
}

/** What is looked at closely. */
type Spot = { column: number; layer: number; expert: number };

function spotAt(x: number, y: number, width: number, columns: readonly Moment[], { row, tops }: Layout): Spot | null {
  const column = Math.floor(((x - LABEL) / Math.max(1, width - LABEL)) * columns.length);
  const layer = tops.findLastIndex((top) => y >= top);
  const expert = Math.floor((y - (tops[layer] ?? 0)) / row);
  return columns[column]?.layers[layer]?.[expert] === undefined ? null : { column, layer, expert };
}

const ARROWS: Record<string, readonly [number, number]> = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

/** A step to the side, or to the next expert, also of the next layer. Outside there is nothing: it stays. */
function moved({ column, layer, expert }: Spot, [dx, dy]: readonly [number, number], columns: readonly Moment[]): Spot {
  const layers = columns[0]?.layers ?? [];
  const places = layers.flatMap((own, layer) => own.map((_, expert) => ({ layer, expert })));
  const at = places.findIndex((place) => place.layer === layer && place.expert === expert);
  const next = places[Math.max(0, Math.min(places.length - 1, at + dy))] ?? { layer, expert };
  return { column: Math.max(0, Math.min(columns.length - 1, column + dx)), ...next };
}

/** What is where, in words. */
function read({ column, layer, expert }: Spot, columns: readonly Moment[]): string {
  const { label, layers } = columns[column] ?? { label: "", layers: [] };
  const own = layers[layer] ?? [];
  return words.value.expert_at(number(layer + 1), number(expert + 1), times(own[expert] ?? 0, own), label);
}

/** The fullest expert of each layer, from the first load to the last. */
function story(all: readonly Moment[]): string[] {
  const fullest = (layer: readonly number[]): string => times(Math.max(...layer), layer);
  const [first, last] = [all[0]?.layers ?? [], all.at(-1)?.layers ?? []];
  return first.map((layer, at) => `${words.value.layer(number(at + 1))}: ${words.value.fullest(fullest(layer), fullest(last[at] ?? layer))}`);
}

function Picture({ all, rows }: { all: readonly Moment[]; rows: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [wanted, setAt] = useState<Spot | null>(null);
  const n = Math.max(1, Math.floor((width - LABEL) / NARROWEST));
  // A column for what came in it: the size of the picture does not depend on how long a run is.
  const columns = useMemo(() => parts(all, n), [all, n]);
  const layout = layoutOf(all[0]?.layers ?? [], rows);
  const { row, tops, height } = layout;
  // It may be of a run that has become another, or of a wider window.
  const at = wanted && columns[wanted.column]?.layers[wanted.layer]?.[wanted.expert] !== undefined ? wanted : null;

  useEffect(() => {
    const own = canvas.current?.parentElement;
    if (!own) return undefined;
    const watch = new ResizeObserver(() => setWidth(own.clientWidth));
    watch.observe(own);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (canvas.current && width > 0) draw(canvas.current, columns, layout, width);
  }, [columns, width, theme.value, height]);

  const onKeyDown = (event: KeyboardEvent): void => {
    const by = ARROWS[event.key];
    if (by === undefined) return;
    event.preventDefault();
    setAt(moved(at ?? { column: columns.length - 1, layer: 0, expert: 0 }, by, columns));
  };
  return (
    <section class="card panel">
      <header class="heat-head">
        <h2>{words.value.load}</h2>
        <p class="heat-key" aria-hidden="true">
          {words.value.load_none}
          <span class="heat-ramp" />
          {words.value.load_twice}
        </p>
      </header>
      <div
        class="heat-picture"
        style={{ height: `${height}px` }}
        role="slider"
        tabIndex={0}
        aria-label={`${words.value.load}. ${story(all).slice(0, 8).join("; ")}`}
        aria-valuemin={0}
        aria-valuemax={columns.length - 1}
        aria-valuenow={at?.column ?? columns.length - 1}
        aria-valuetext={at ? read(at, columns) : story(all).slice(0, 4).join("; ")}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          setAt(spotAt(event.clientX - box.left, event.clientY - box.top, width, columns, layout));
        }}
        onPointerLeave={() => setAt(null)}
        onKeyDown={onKeyDown}
      >
        <canvas ref={canvas} style={{ width: `${width}px`, height: `${height}px` }} />
        {at && (
          <i
            class="heat-mark"
            style={{
              left: `${LABEL + ((at.column + 0.5) / columns.length) * (width - LABEL)}px`,
              top: `${(tops[at.layer] ?? 0) + (at.expert + 0.5) * row}px`,
            }}
          />
        )}
      </div>
      <p class="heat-read muted fine">{at ? read(at, columns) : words.value.load_words}</p>
    </section>
  );
}
