// Lines of charts, out of the numbers of a run: points along an axis, and what of many can be drawn.

import type { RunData, StageData } from "./data";

/** What a line of a chart is over: seconds of the whole run, or steps of one stage. */
export type Axis = { stage: string | null };

/** Where each stage begins on the axis of seconds. */
export function spans(data: RunData): { name: string; from: number; to: number }[] {
  let at = 0;
  return [...data.stages.values()].map((stage) => {
    const from = at;
    at += stage.used;
    return { name: stage.name, from, to: at };
  });
}

export type Points = { x: number[]; y: number[] };

/** A metric along an axis. `tokens_per_second` comes of the timings. */
export function points(data: RunData, metric: string, axis: Axis): Points {
  const out: Points = { x: [], y: [] };
  if (axis.stage !== null) {
    const stage = data.stages.get(axis.stage);
    if (stage) pour(stage, metric, (step) => step, out);
    return out;
  }
  let from = 0;
  for (const stage of data.stages.values()) {
    const ends: number[] = [];
    let at = from;
    for (let step = 0; step < stage.seconds.length; step++) {
      at += stage.seconds[step] ?? 0;
      ends.push(at);
    }
    const last = at;
    pour(stage, metric, (step) => ends[step - 1] ?? last, out);
    from = last;
  }
  return out;
}

function pour(stage: StageData, metric: string, place: (step: number) => number, out: Points): void {
  if (metric === "tokens_per_second") {
    stage.seconds.forEach((seconds, step) => {
      const tokens = stage.tokens[step] ?? 0;
      if (seconds > 0 && tokens > 0) {
        out.x.push(place(step + 1));
        out.y.push(tokens / seconds);
      }
    });
    return;
  }
  const series = stage.metrics.get(metric);
  if (!series) return;
  // A gap between stages: their numbers do not follow from each other.
  if (out.x.length > 0) {
    // A place of its own, just behind: lines of several runs are put together by place.
    const last = out.x.at(-1) ?? 0;
    out.x.push(last + Math.max(1e-9, last * 1e-12));
    out.y.push(NaN);
  }
  for (let at = 0; at < series.steps.length; at++) {
    out.x.push(place(series.steps[at] ?? 0));
    out.y.push(series.values[at] ?? NaN);
  }
}

/** What is drawn: means over runs of points with the lowest and highest of each. */
export type Band = { x: number[]; mean: (number | null)[]; low: (number | null)[]; high: (number | null)[] };

/** At most about `most` points between two places of the axis. Few points stay as they are. */
export function band({ x, y }: Points, most: number, range: readonly [number, number] | null): Band {
  let [first, end] = [0, x.length];
  if (range) {
    // One point beyond each end, so that lines run out of the picture and do not begin within.
    first = Math.max(0, lowerBound(x, range[0]) - 1);
    end = Math.min(x.length, lowerBound(x, range[1]) + 1);
  }
  const out: Band = { x: [], mean: [], low: [], high: [] };
  const n = end - first;
  if (n <= 0) return out;
  const lowX = x[first] ?? 0;
  const width = ((x[end - 1] ?? 0) - lowX) / most;
  const isFew = n <= most || width <= 0;
  let at = first;
  while (at < end) {
    if (Number.isNaN(y[at])) {
      push(out, x[at] ?? 0, null, null, null);
      at++;
      continue;
    }
    // Places are those of the axis, so that what was drawn stays where it is when more comes.
    const place = isFew ? 0 : Math.floor(((x[at] ?? 0) - lowX) / width);
    let [sum, count, low, high, last] = [0, 0, Infinity, -Infinity, x[at] ?? 0];
    do {
      const value = y[at] ?? NaN;
      sum += value;
      count++;
      if (value < low) low = value;
      if (value > high) high = value;
      last = x[at] ?? last;
      at++;
    } while (
      !isFew &&
      at < end &&
      !Number.isNaN(y[at]) &&
      Math.floor(((x[at] ?? 0) - lowX) / width) === place
    );
    push(out, last, sum / count, low, high);
  }
  return out;
}

function push(out: Band, x: number, mean: number | null, low: number | null, high: number | null): void {
  out.x.push(x);
  out.mean.push(mean);
  out.low.push(low);
  out.high.push(high);
}

/** The first index whose value is at least so large. */
export function lowerBound(list: readonly number[], value: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
