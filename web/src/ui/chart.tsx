// Lines over steps, drawn by uPlot, which is loaded when the first chart is.

import { useEffect, useRef, useState } from "preact/hooks";
import type uPlotOf from "uplot";
import "./uplot.css";
import { theme } from "../app/theme";

/** One line. Its numbers belong to the chart's `x`, place by place; null leaves a gap. */
export type Line = {
  name: string;
  values: readonly (number | null)[];
  /** Which of the six colours; by its place in the list if not said. */
  colour?: 1 | 2 | 3 | 4 | 5 | 6;
  /** Drawn thin and dashed: a raw line under its smoothed one, another run's. */
  isFaint?: boolean;
};

/** The colour that a custom property has now, in words that a canvas takes. */
export function colourOf(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const colourName = (line: Line, at: number): string => `--line-${line.colour ?? (at % 6) + 1}`;

/** A chart. `summary` is what a screen reader says of it. Charts with the same `sync` move together. */
export function Chart({
  x,
  lines,
  summary,
  height = 180,
  format = String,
  formatX = String,
  sync,
  range,
}: {
  x: readonly number[];
  lines: readonly Line[];
  summary: string;
  height?: number;
  /** How values are written. */
  format?: (value: number) => string;
  /** How places on the horizontal axis are written. */
  formatX?: (value: number) => string;
  sync?: string;
  /** Bounds of the values, where they are known. */
  range?: readonly [number, number];
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlotOf | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const names = lines.map((line) => `${line.name}/${line.colour}/${line.isFaint}`).join("|");
  const data = (): uPlotOf.AlignedData => [x as number[], ...lines.map((line) => line.values as (number | null)[])];
  const scheme = theme.value;

  useEffect(() => {
    let gone = false;
    let watch: ResizeObserver | undefined;
    void import("uplot").then(({ default: Plot }) => {
      const own = box.current;
      if (gone || !own) return;
      const muted = colourOf("--muted");
      const axis = {
        stroke: muted,
        font: "11px system-ui, sans-serif",
        grid: { stroke: colourOf("--line"), width: 1 },
        ticks: { show: false },
      };
      plot.current = new Plot(
        {
          width: own.clientWidth,
          height,
          legend: { show: false },
          cursor: { y: false, points: { size: 6 }, ...(sync === undefined ? {} : { sync: { key: sync } }) },
          scales: { x: { time: false }, ...(range === undefined ? {} : { y: { range: [range[0], range[1]] } }) },
          axes: [
            { ...axis, size: 28, values: (_, ticks) => ticks.map(formatX) },
            { ...axis, size: 52, values: (_, ticks) => ticks.map(format) },
          ],
          series: [
            {},
            ...lines.map((line, place) => ({
              label: line.name,
              stroke: colourOf(colourName(line, place)),
              width: line.isFaint ? 1 : 1.75,
              alpha: line.isFaint ? 0.55 : 1,
              points: { show: x.length < 2 },
              spanGaps: true,
              ...(line.isFaint ? { dash: [4, 3] } : {}),
            })),
          ],
          hooks: { setCursor: [(chart) => setAt(chart.cursor.idx ?? null)] },
        },
        data(),
        own,
      );
      watch = new ResizeObserver(() => plot.current?.setSize({ width: own.clientWidth, height }));
      watch.observe(own);
    });
    return () => {
      gone = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, height, scheme, sync]);

  useEffect(() => plot.current?.setData(data()), [x, lines]);

  const shown = at ?? x.length - 1;
  return (
    <figure class="chart">
      <figcaption class="chart-legend" aria-hidden="true">
        {lines.map((line, place) => {
          const value = line.values[shown];
          return (
            <span key={line.name}>
              <i style={{ background: `var(${colourName(line, place)})` }} />
              {line.name}
              <b>{value === null || value === undefined ? "–" : format(value)}</b>
            </span>
          );
        })}
      </figcaption>
      <div ref={box} role="img" aria-label={summary} style={{ height: `${height}px` }} />
    </figure>
  );
}
