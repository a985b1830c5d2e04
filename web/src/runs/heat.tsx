// How evenly experts were used: a picture of rows (experts, by layer) over time. It is drawn a pixel
// column for what came in it, so its size does not depend on how long a run is.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { theme } from "../app/theme";
import { number } from "../i18n/format";
import { colourOf } from "../ui/chart";
import type { Load, RunData } from "./data";
import { words } from "./words";

const SHADES = 12;
/** From here on a share is drawn as the fullest: a multiple of the even one. */
const TOP = 2;
const MOST_ROWS = 512;
const LABEL = 64;
const GAP = 10;

/** Loads at their places on the axis. */
type Placed = { at: number; label: string; layers: number[][] };

function placed(data: RunData, stage: string | null): Placed[] {
  const out: Placed[] = [];
  let shape = "";
  const put = (name: string, load: Load): void => {
    const own = load.layers.map((layer) => layer.length).join();
    // Another model: the newest is shown.
    if (own !== shape) out.length = 0;
    shape = own;
    out.push({ at: out.length, label: `${name}, ${words.value.at_step(number(load.step))}`, layers: load.layers });
  };
  for (const own of data.stages.values()) {
    if (stage === null || own.name === stage) own.loads.forEach((load) => put(own.name, load));
  }
  return out;
}

const times = (value: number): string => `${number(value, { maximumFractionDigits: value < 10 ? 1 : 0 })}×`;
const fullest = (layer: readonly number[]): number => Math.max(...layer) * layer.length;

export function Heat({ data, stage }: { data: RunData; stage: string | null }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState<{ column: number; layer: number; expert: number } | null>(null);
  const version = data.version.value;
  const scheme = theme.value;
  const loads = useMemo(() => placed(data, stage), [data, stage, version]);
  const layers = loads[0]?.layers ?? [];
  const rows = layers.reduce((sum, layer) => sum + layer.length, 0);
  const row = rows > 128 ? 2 : rows > 48 ? 4 : rows > 24 ? 7 : 9;
  const height = rows * row + Math.max(0, layers.length - 1) * GAP;
  const columns = Math.max(1, Math.min(loads.length, Math.floor((width - LABEL) / 6)));

  /** Means over the loads of a column. */
  const column = (place: number): number[][] => {
    const from = Math.floor((place * loads.length) / columns);
    const to = Math.max(from + 1, Math.floor(((place + 1) * loads.length) / columns));
    const run = loads.slice(from, to);
    return layers.map((layer, at) =>
      layer.map((_, expert) => run.reduce((sum, load) => sum + (load.layers[at]?.[expert] ?? 0), 0) / Math.max(1, run.length)),
    );
  };

  useEffect(() => {
    const own = canvas.current?.parentElement;
    if (!own) return undefined;
    const watch = new ResizeObserver(() => setWidth(own.clientWidth));
    watch.observe(own);
    return () => watch.disconnect();
  }, [rows > 0]);

  useEffect(() => {
    const own = canvas.current;
    const pen = own?.getContext("2d");
    if (!own || !pen || width === 0 || rows === 0) return;
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    own.width = Math.round(width * ratio);
    own.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const shades = Array.from({ length: SHADES + 1 }, (_, shade) => colourOf(`--heat-${shade}`));
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const muted = colourOf("--muted");
    const wide = (width - LABEL) / columns;
    for (let place = 0; place < columns; place++) {
      let top = 0;
      column(place).forEach((layer, index) => {
        layer.forEach((share, expert) => {
          const shade = Math.round(Math.min(1, Math.max(0, (share * layer.length) / TOP)) * SHADES);
          pen.fillStyle = shades[shade] ?? muted;
          const left = LABEL + place * wide;
          pen.fillRect(left, top + expert * row, Math.ceil(left + wide) - left, row - (row > 3 ? 1 : 0));
        });
        if (place === 0) {
          pen.fillStyle = muted;
          pen.fillText(words.value.layer(String(index + 1)), 0, top + (layer.length * row) / 2);
        }
        top += layer.length * row + GAP;
      });
    }
  }, [loads, width, scheme, height]);

  if (rows === 0 || rows > MOST_ROWS) return null;

  const find = (x: number, y: number): void => {
    const place = Math.floor(((x - LABEL) / Math.max(1, width - LABEL)) * columns);
    let top = 0;
    for (let layer = 0; layer < layers.length; layer++) {
      const own = layers[layer]?.length ?? 0;
      const expert = Math.floor((y - top) / row);
      if (expert >= 0 && expert < own && place >= 0 && place < columns) return setAt({ column: place, layer, expert });
      top += own * row + GAP;
    }
    setAt(null);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const here = at ?? { column: columns - 1, layer: 0, expert: 0 };
    const [dx = 0, dy = 0] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] ?? [0, 0];
    if (dx === 0 && dy === 0) return;
    event.preventDefault();
    let { column: place, layer, expert } = here;
    place = Math.min(columns - 1, Math.max(0, place + dx));
    expert += dy;
    if (expert >= (layers[layer]?.length ?? 0) && layer + 1 < layers.length) [layer, expert] = [layer + 1, 0];
    else if (expert < 0 && layer > 0) [layer, expert] = [layer - 1, (layers[layer - 1]?.length ?? 1) - 1];
    expert = Math.min((layers[layer]?.length ?? 1) - 1, Math.max(0, expert));
    setAt({ column: place, layer, expert });
  };
  const read = (): string => {
    if (!at) return "";
    const own = column(at.column)[at.layer] ?? [];
    const place = loads[Math.floor((at.column * loads.length) / columns)];
    const share = (own[at.expert] ?? 0) * own.length;
    return words.value.expert_at(String(at.layer + 1), String(at.expert + 1), times(share), place?.label ?? "");
  };
  const [first, last] = [loads[0]?.layers ?? [], loads.at(-1)?.layers ?? []];
  const story = layers.map(
    (_, at) => `${words.value.layer(String(at + 1))}: ${words.value.fullest(times(fullest(first[at] ?? [])), times(fullest(last[at] ?? [])))}`,
  );
  return (
    <section class="heat panel">
      <header>
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
        aria-label={`${words.value.load}. ${story.slice(0, 8).join("; ")}`}
        aria-valuemin={0}
        aria-valuemax={columns - 1}
        aria-valuenow={at?.column ?? columns - 1}
        aria-valuetext={read() || story.slice(0, 4).join("; ")}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          find(event.clientX - box.left, event.clientY - box.top);
        }}
        onPointerLeave={() => setAt(null)}
        onKeyDown={onKeyDown}
      >
        <canvas ref={canvas} style={{ width: `${width}px`, height: `${height}px` }} />
        {at && (
          <i
            class="heat-mark"
            style={{
              left: `${LABEL + ((at.column + 0.5) / columns) * (width - LABEL)}px`,
              top: `${layers.slice(0, at.layer).reduce((sum, layer) => sum + layer.length * row + GAP, 0) + (at.expert + 0.5) * row}px`,
            }}
          />
        )}
      </div>
      <p class="heat-read muted">{read() || words.value.load_words}</p>
    </section>
  );
}
