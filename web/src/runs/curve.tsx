// Lines that grow, drawn by uPlot: means with the range they stand for, in as many points as a picture
// can show. The picture is made once; what comes later is put into it.

import type { Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type uPlotOf from "uplot";
import "../ui/uplot.css";
import { theme } from "../app/theme";
import { colourOf } from "../ui/chart";
import { lowerBound } from "./data";
import { AXIS, colourName, dot, drawn, gaps, type Range, shade, soft, type Span, type Trace, valueAt } from "./drawing";
import { words } from "./words";

type Shape = {
  title: string;
  traces: readonly Trace[];
  spans: readonly Span[];
  /** What all charts beside each other show of the axis. */
  zoom: Signal<Range>;
  /** All of the axis, where nothing was looked at closely. */
  domain: readonly [number, number];
  format: (value: number) => string;
  /** A place in words. */
  formatX: (value: number) => string;
  /** A place at the axis, and the distances that ticks may have. */
  tick: (value: number) => string;
  increments?: number[] | undefined;
  range?: readonly [number, number] | undefined;
  isFromZero?: boolean | undefined;
  /** Charts of one name move their cursors together. */
  sync: string;
};

const HEIGHT = 168;

export function Curve(shape: Shape) {
  const { title, traces, spans, zoom, format, formatX, range, isFromZero, domain, sync } = shape;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlotOf | null>(null);
  const join = useRef<typeof uPlotOf.join | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const now = useRef(shape);
  now.current = shape;
  const look = traces.map((trace) => `${colourName(trace)}${trace.isFaint ? "-" : ""}`).join();
  const scheme = theme.value;
  const zoomed = zoom.value;

  const put = (): void => {
    const own = plot.current;
    if (!own || !join.current) return;
    const { table } = drawn(now.current.traces, own.width, zoom.peek(), join.current);
    own.setData(table as unknown as uPlotOf.AlignedData, false);
    // Values follow from what is seen, the axis from what is chosen.
    const [min, max] = zoom.peek() ?? now.current.domain;
    own.setScale("x", { min, max: max > min ? max : min + 1 });
  };

  useEffect(() => {
    let gone = false;
    let watch: ResizeObserver | undefined;
    void import("uplot").then(({ default: Plot }) => {
      const own = box.current;
      if (gone || !own) return;
      join.current = Plot.join;
      const [muted, line, tint] = [colourOf("--muted"), colourOf("--line"), colourOf("--hover")];
      const axis: uPlotOf.Axis = {
        stroke: muted,
        font: "11px system-ui, sans-serif",
        grid: { stroke: line, width: 1 },
        ticks: { show: false },
        gap: 4,
      };
      const series: uPlotOf.Series[] = [{}];
      const bands: uPlotOf.Band[] = [];
      now.current.traces.forEach((trace, place) => {
        const colour = colourOf(colourName(trace));
        series.push(
          {
            stroke: colour,
            width: trace.isFaint ? 1.25 : 1.75,
            // A line of few points, or one alone between gaps, would not be seen.
            points: { show: (chart) => chart.data[0].length < 64, size: 4, fill: colour },
            gaps,
          },
          { stroke: "transparent", width: 0, points: { show: false }, gaps },
          { stroke: "transparent", width: 0, points: { show: false }, gaps },
        );
        bands.push({ series: [3 * place + 2, 3 * place + 3], fill: soft(colour, trace.isFaint ? 0.08 : 0.16) });
      });
      plot.current = new Plot(
        {
          width: own.clientWidth,
          height: HEIGHT,
          padding: [() => (now.current.spans.length > 1 ? 18 : 8), 12, 0, 0],
          legend: { show: false },
          cursor: {
            y: false,
            // Points are on the means alone.
            points: { size: 7, show: (chart, index) => (index % 3 === 1 ? dot(chart, index) : (undefined as never)) },
            drag: { x: true, y: false, setScale: false },
            sync: { key: now.current.sync },
            bind: { dblclick: () => () => ((zoom.value = null), null) },
          },
          scales: {
            x: { time: false },
            y: {
              range: (_, min, max) => {
                const { range, isFromZero } = now.current;
                if (range) return [range[0], range[1]];
                if (min === null || max === null) return [0, 1];
                const low = isFromZero && min >= 0 ? 0 : min;
                const room = (max - low || Math.abs(max) || 1) * 0.06;
                return [low === 0 ? 0 : low - room, max + room];
              },
            },
          },
          axes: [
            { ...axis, size: 24, space: 64, values: (_, ticks) => ticks.map((tick) => now.current.tick(tick)), ...(now.current.increments ? { incrs: now.current.increments } : {}) },
            { ...axis, size: AXIS, space: 34, values: (_, ticks) => ticks.map((tick) => now.current.format(tick)) },
          ],
          series,
          bands,
          hooks: {
            drawClear: [(chart) => shade(chart, now.current.spans, tint, muted)],
            setCursor: [
              (chart) => {
                const { left } = chart.cursor;
                setAt(left === undefined || left < 0 ? null : chart.posToVal(left, "x"));
              },
            ],
            setSelect: [
              (chart) => {
                const { left, width } = chart.select;
                if (width < 6) return;
                zoom.value = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
                chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              },
            ],
          },
        },
        [[], ...now.current.traces.flatMap(() => [[], [], []])],
        own,
      );
      put();
      watch = new ResizeObserver(() => {
        if (own.clientWidth === 0) return;
        plot.current?.setSize({ width: own.clientWidth, height: HEIGHT });
        put();
      });
      watch.observe(own);
    });
    return () => {
      gone = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [look, scheme, sync]);

  useEffect(put, [traces, zoomed, spans, range, isFromZero, domain[0], domain[1]]);

  // The cursor by keys and by finger.
  const all = traces[0]?.points;
  const move = (x: number): void => {
    const own = plot.current;
    if (own) own.setCursor({ left: own.valToPos(x, "x"), top: 20 });
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (!all || all.x.length === 0) return;
    const from = zoomed ? lowerBound(all.x, zoomed[0]) : 0;
    const to = zoomed ? Math.max(from, lowerBound(all.x, zoomed[1]) - 1) : all.x.length - 1;
    const here = at === null ? to : Math.min(to, lowerBound(all.x, at));
    const stride = Math.max(1, Math.round((to - from) / 60));
    const by = { ArrowRight: stride, ArrowLeft: -stride, PageUp: 10 * stride, PageDown: -10 * stride }[event.key];
    const next = event.key === "Home" ? from : event.key === "End" ? to : by === undefined ? null : here + by;
    if (next === null) return;
    event.preventDefault();
    move(all.x[Math.max(from, Math.min(to, next))] ?? 0);
  };
  const onTouch = (event: TouchEvent): void => {
    const own = plot.current;
    const touch = event.touches[0];
    if (!own || !touch) return;
    own.setCursor({ left: touch.clientX - own.over.getBoundingClientRect().left, top: 20 });
  };

  const values = traces.map((trace) => valueAt(trace.points, at));
  const shown = traces.map((trace, place) => {
    const value = values[place];
    return `${traces.length > 1 ? `${trace.name} ` : ""}${value === null || value === undefined ? "–" : format(value)}`;
  });
  const where = at === null ? "" : `${formatX(at)}: `;
  return (
    <figure class="curve">
      <figcaption>
        <span class="curve-title">{title}</span>
        <span class="curve-values" aria-hidden="true">
          {at !== null && <span class="muted">{formatX(at)}</span>}
          {traces.map((trace, place) => {
            const value = values[place];
            return (
              <span key={trace.name}>
                {traces.length > 1 && (
                  <span class="muted">
                    <i style={{ background: `var(${colourName(trace)})` }} /> {trace.name}
                  </span>
                )}
                <b>{value === null || value === undefined ? "–" : format(value)}</b>
              </span>
            );
          })}
        </span>
      </figcaption>
      <div
        ref={box}
        class="curve-plot"
        style={{ height: `${HEIGHT}px` }}
        role="slider"
        tabIndex={0}
        aria-label={summary(shape)}
        aria-valuemin={0}
        aria-valuemax={Math.max(1, all?.x.at(-1) ?? 1)}
        aria-valuenow={at ?? all?.x.at(-1) ?? 0}
        aria-valuetext={`${where}${shown.join(", ")}`}
        onKeyDown={onKeyDown}
        onTouchStart={onTouch}
        onTouchMove={onTouch}
        onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
      />
    </figure>
  );
}

/** What a screen reader says of the whole. */
function summary({ title, traces, format }: Shape): string {
  const sentences = traces.map(({ name, points }) => {
    const known = points.y.filter((value) => !Number.isNaN(value));
    if (known.length === 0) return name;
    let [low, high] = [Infinity, -Infinity];
    for (const value of known) [low, high] = [Math.min(low, value), Math.max(high, value)];
    const [first, last] = [known[0] ?? 0, known.at(-1) ?? 0];
    const label = traces.length > 1 ? `${title}, ${name}` : title;
    return words.value.summary(label, format(first), format(last), format(low), format(high));
  });
  return sentences.join(" ");
}
