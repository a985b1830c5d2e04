// How uPlot draws curves: a mean and the range around it for each trace, stages as tints behind them, a
// cursor that charts beside each other share, and dragging that looks closer.

import type { Signal } from "@preact/signals";
import type uPlotOf from "uplot";
import { AXIS, colourName, colourOf, dot, gaps, type Range, shade, soft, type Span, tableOf, type Trace } from "./drawing";

export type Shape = {
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

export const HEIGHT = 168;
/** Narrower in pixels than what anybody means to look at. */
const NARROWEST = 6;

/** A picture that was made once; what changes is put into it. */
export type Plot = { put: () => void; cursor: (x: number | null) => void; touch: (clientX: number) => void; remove: () => void };

/** Makes it. `now` gives what is to be drawn, as it is at that time. */
export function plot(Made: typeof uPlotOf, box: HTMLElement, now: () => Shape, hear: (x: number | null) => void): Plot {
  const chart = new Made(options(box.clientWidth, now, hear), [[], ...now().traces.flatMap(() => [[], [], []])], box);
  const put = (): void => {
    const { traces, zoom, domain } = now();
    chart.setData(tableOf(traces, chart.width, zoom.peek(), Made.join), false);
    // Values follow from what is seen, the axis from what is chosen.
    const [min, max] = zoom.peek() ?? domain;
    chart.setScale("x", { min, max: max > min ? max : min + 1 });
  };
  put();
  const watch = new ResizeObserver(() => {
    if (box.clientWidth === 0) return;
    chart.setSize({ width: box.clientWidth, height: HEIGHT });
    put();
  });
  watch.observe(box);
  const point = (left: number): void => chart.setCursor({ left, top: 20 });
  return {
    put,
    cursor: (x) => (x === null ? chart.setCursor({ left: -10, top: -10 }) : point(chart.valToPos(x, "x"))),
    touch: (clientX) => point(clientX - chart.over.getBoundingClientRect().left),
    remove: () => {
      watch.disconnect();
      chart.destroy();
    },
  };
}

function options(width: number, now: () => Shape, hear: (x: number | null) => void): uPlotOf.Options {
  const [muted, tint] = [colourOf("--muted"), colourOf("--hover")];
  return {
    width,
    height: HEIGHT,
    padding: [() => (now().spans.length > 1 ? 18 : 8), 12, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      // Points are on the means alone.
      points: { size: 7, show: (chart, index) => (index % 3 === 1 ? dot(chart, index) : (undefined as never)) },
      drag: { x: true, y: false, setScale: false },
      sync: { key: now().sync },
      bind: { dblclick: () => () => ((now().zoom.value = null), null) },
    },
    scales: { x: { time: false }, y: { range: (_, min, max) => valuesOf(now(), min, max) } },
    axes: axes(muted, now),
    ...lines(now().traces),
    hooks: {
      drawClear: [(chart) => shade(chart, now().spans, tint, muted)],
      setCursor: [
        (chart) => {
          const { left } = chart.cursor;
          hear(left === undefined || left < 0 ? null : chart.posToVal(left, "x"));
        },
      ],
      setSelect: [
        (chart) => {
          const { left, width } = chart.select;
          if (width < NARROWEST) return;
          now().zoom.value = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
          chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

/** From where to where values go. */
function valuesOf({ range, isFromZero }: Shape, min: number | null, max: number | null): uPlotOf.Range.MinMax {
  if (range) return [range[0], range[1]];
  if (min === null || max === null) return [0, 1];
  const low = isFromZero && min >= 0 ? 0 : min;
  const room = (max - low || Math.abs(max) || 1) * 0.06;
  return [low === 0 ? 0 : low - room, max + room];
}

function axes(stroke: string, now: () => Shape): uPlotOf.Axis[] {
  const axis: uPlotOf.Axis = {
    stroke,
    font: "11px system-ui, sans-serif",
    grid: { stroke: colourOf("--line"), width: 1 },
    ticks: { show: false },
    gap: 4,
  };
  const { increments } = now();
  return [
    { ...axis, size: 24, space: 64, values: (_, ticks) => ticks.map((tick) => now().tick(tick)), ...(increments ? { incrs: increments } : {}) },
    { ...axis, size: AXIS, space: 34, values: (_, ticks) => ticks.map((tick) => now().format(tick)) },
  ];
}

/** Of each trace its mean, and the band between its highest and its lowest. */
function lines(traces: readonly Trace[]): { series: uPlotOf.Series[]; bands: uPlotOf.Band[] } {
  const [series, bands]: [uPlotOf.Series[], uPlotOf.Band[]] = [[{}], []];
  traces.forEach((trace, place) => {
    const colour = colourOf(colourName(trace));
    const edge: uPlotOf.Series = { stroke: "transparent", width: 0, points: { show: false }, gaps };
    // A line of few points, or one alone between gaps, would not be seen.
    const points: uPlotOf.Series.Points = { show: (chart) => chart.data[0].length < 64, size: 4, fill: colour };
    series.push({ stroke: colour, width: 1.75, points, gaps }, edge, { ...edge });
    bands.push({ series: [3 * place + 2, 3 * place + 3], fill: soft(colour, 0.16) });
  });
  return { series, bands };
}
