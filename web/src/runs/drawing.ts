// What curves are drawn of: points put together for uPlot, gaps, tints of stages, colours.

import type uPlotOf from "uplot";
import { band, lowerBound, type Points } from "./points";

export type Trace = {
  name: string;
  points: Points;
  /** Which of the six colours. */
  colour: number;
};

/** A part of the axis that has a name: a stage. */
export type Span = { name: string; from: number; to: number };

export type Range = readonly [number, number] | null;

/** Width in pixels that values beside the axis take. */
export const AXIS = 52;
/** Width in pixels that one point of a line stands for. */
const PER_POINT = 3;
/** Pixels of a stroke on each side of its line. */
const STROKE = 1.2;

export const colourName = (trace: Trace): string => `--line-${((trace.colour - 1) % 6) + 1}`;

/** The colour that a custom property has now, in words that a canvas takes. */
export function colourOf(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** What is drawn: for each trace its mean, its highest and its lowest, over shared places. */
export function tableOf(traces: readonly Trace[], width: number, zoom: Range, join: typeof uPlotOf.join): uPlotOf.AlignedData {
  const most = Math.max(24, Math.floor((width - AXIS) / PER_POINT));
  const tables = traces.map((trace) => {
    const { x, mean, high, low } = band(trace.points, most, zoom);
    return [x, mean, high, low] as uPlotOf.AlignedData;
  });
  return tables.length === 1 ? (tables[0] ?? [[]]) : join(tables);
}

/** The value of a trace at or before a place. */
export function valueAt(points: Points, x: number | null): number | null {
  let at = x === null ? points.x.length - 1 : Math.min(points.x.length - 1, lowerBound(points.x, x + 1e-9));
  // The nearer neighbour; gaps have no value.
  if (x !== null && at > 0 && Math.abs((points.x[at - 1] ?? 0) - x) < Math.abs((points.x[at] ?? 0) - x)) at -= 1;
  while (at > 0 && Number.isNaN(points.y[at])) at -= 1;
  const value = points.y[at];
  return value === undefined || Number.isNaN(value) ? null : value;
}

/** A colour with less of it. */
export function soft(colour: string, share: number): string {
  const rgb = /^rgb\(([\d.]+),? ([\d.]+),? ([\d.]+)\)$/.exec(colour);
  return rgb ? `rgb(${rgb[1]} ${rgb[2]} ${rgb[3]} / ${share})` : "transparent";
}

export function dot(chart: uPlotOf, index: number): HTMLElement {
  const element = document.createElement("div");
  element.style.background = String((chart.series[index] as { _stroke?: unknown })._stroke ?? "");
  return element;
}

/**
 * Where a line is broken: from the last value before a gap to the first behind it, however near they
 * are. (By itself the library joins what is less than a pixel apart.)
 */
export const gaps: uPlotOf.Series.GapsRefiner = (chart, series, from, to) => {
  const [xs, ys] = [chart.data[0], chart.data[series]];
  const out: [number, number][] = [];
  if (!ys) return out;
  const place = (at: number): number => chart.valToPos(xs[at] ?? 0, "x", true);
  for (let at = from; at <= to; at++) {
    // Places of other runs are undefined, and break nothing.
    if (ys[at] !== null) continue;
    let [before, after] = [at, at];
    while (before > from && (ys[before] === null || ys[before] === undefined)) before--;
    while (after < to && (ys[after] === null || ys[after] === undefined)) after++;
    const middle = place(at);
    // A little more than the stroke's half at both ends; what overlaps is one gap.
    const left = Math.min(place(before) - STROKE, middle - STROKE);
    const right = Math.max(place(after) + STROKE, middle + STROKE);
    const last = out.at(-1);
    if (last && left <= last[1]) last[1] = Math.max(last[1], right);
    else out.push([left, right]);
    at = Math.max(at, after - 1);
  }
  return out;
};

/** Every other stage is tinted, and named where there is room. */
export function shade(chart: uPlotOf, spans: readonly Span[], tint: string, ink: string): void {
  if (spans.length < 2) return;
  const ratio = window.devicePixelRatio || 1;
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = tint;
  spans.forEach(({ from, to }, place) => {
    if (place % 2 === 0) return;
    const left = chart.valToPos(from, "x", true);
    const right = chart.valToPos(to, "x", true);
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
  });
  ctx.restore();
  ctx.save();
  ctx.fillStyle = ink;
  ctx.textAlign = "left";
  ctx.font = `${10 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  for (const { name, from, to } of spans) {
    const left = Math.max(bbox.left, chart.valToPos(from, "x", true));
    const right = Math.min(bbox.left + bbox.width, chart.valToPos(to, "x", true));
    if (ctx.measureText(name).width + 8 * ratio < right - left) ctx.fillText(name, left + 4 * ratio, bbox.top - 15 * ratio);
  }
  ctx.restore();
}
