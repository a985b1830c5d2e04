// Small parts that the pages of runs share.

import type { ComponentChildren } from "preact";
import { Badge, type Tone } from "../ui/index";
import type { Stage, State } from "../api/runs";
import { percent } from "../i18n/format";
import { words } from "./words";

const TONES: Record<State, Tone> = {
  running: "accent",
  done: "good",
  failed: "bad",
  stopped: "warn",
  waiting: "plain",
};

/** How a run stands. */
export function StateBadge({ state, stopping }: { state: State; stopping: boolean }) {
  return (
    <Badge tone={stopping ? "warn" : TONES[state]}>
      <i class="state-dot" data-state={stopping ? "stopped" : state} />
      {stopping ? words.value.stopping : (words.value.state[state] ?? state)}
    </Badge>
  );
}

/** Accuracy over a run, in a line of text's height. */
export function Spark({ values, isLarge = false }: { values: readonly number[]; isLarge?: boolean }) {
  const [width, height] = isLarge ? [260, 64] : [96, 24];
  if (values.length === 0) return <span class="muted">–</span>;
  const x = (at: number): number => (values.length < 2 ? width : (at / (values.length - 1)) * (width - 4)) + 1;
  const y = (value: number): number => height - 2 - Math.min(1, Math.max(0, value)) * (height - 4);
  const line = values.map((value, at) => `${at === 0 ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const [first, last] = [values[0] ?? 0, values.at(-1) ?? 0];
  return (
    <svg
      class="spark"
      width={width}
      height={height}
      viewBox={`0 0 ${width} ${height}`}
      role="img"
      aria-label={words.value.accuracy_curve(percent(first), percent(last))}
    >
      <path class="spark-area" d={`${line}L${x(values.length - 1).toFixed(1)} ${height - 2}L${x(0).toFixed(1)} ${height - 2}Z`} />
      <path class="spark-line" d={line} />
      <circle cx={x(values.length - 1)} cy={y(last)} r="2.2" />
    </svg>
  );
}

/** Something in words over its picture on a line. */
export function OverLine({ picture, children }: { picture: ComponentChildren; children: ComponentChildren }) {
  return (
    <span class="over-line">
      <span>{children}</span>
      {picture}
    </span>
  );
}

/** A bar as long as its share of the longest; nothing where it is not to be held against others. */
export function Length({ of, longest }: { of: number; longest: number }) {
  if (longest <= 0) return null;
  return (
    <span class="length" aria-hidden="true">
      <i style={{ width: `${(100 * of) / longest}%` }} />
    </span>
  );
}

/** Seconds that a stage will take, by how long its steps took so far; null where nobody can tell. */
export const left = (stage: Stage, steps = stage.steps): number | null =>
  stage.state === "running" && stage.steps > 2 && stage.seconds > 0 && stage.of > steps
    ? (stage.seconds / stage.steps) * (stage.of - steps)
    : null;
