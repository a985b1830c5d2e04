// Which numbers are drawn, in what order and how they are written.

import { count, number, percent, significant } from "../i18n/format";
import type { RunData } from "./data";
import { words } from "./words";

export type Metric = {
  name: string;
  /** Others drawn in the same picture. */
  with?: readonly string[];
  format: (value: number) => string;
  /** Bounds, where they are known. */
  range?: readonly [number, number];
  /** Never below: so that a line near zero is not blown up. */
  isFromZero?: boolean;
};

const few = (value: number): string => significant(value, 3);
const share = (value: number): string => percent(value, value > 0 && value < 0.1 ? 1 : 0);
const whole = (value: number): string => number(value, { maximumFractionDigits: value < 10 ? 1 : 0 });

/** What one wants to see first. */
export const FIRST: readonly Metric[] = [
  { name: "accuracy", format: share, range: [0, 1] },
  { name: "thinking_tokens", format: whole, isFromZero: true },
  { name: "reward", format: few, isFromZero: true },
  { name: "loss", with: ["held_out_loss"], format: few, isFromZero: true },
  { name: "entropy", format: few, isFromZero: true },
  { name: "tokens_per_second", format: count, isFromZero: true },
  { name: "gradient_norm", format: few, isFromZero: true },
  { name: "divergence", format: few, isFromZero: true },
];

/** What is there when something seems wrong. */
export const MORE: readonly Metric[] = [
  { name: "self_checks", format: few, isFromZero: true },
  { name: "in_form", format: share, range: [0, 1] },
  { name: "response_tokens", format: whole, isFromZero: true },
  { name: "truncated", format: share, range: [0, 1] },
  { name: "groups_without_signal", format: share, range: [0, 1] },
  { name: "learning_rate", format: (value) => number(value, { notation: "scientific", maximumFractionDigits: 1 }), isFromZero: true },
  { name: "kl", format: few },
  { name: "clip_fraction", format: share, isFromZero: true },
  { name: "consistency", format: share, range: [0, 1] },
  { name: "max_violation", format: few, isFromZero: true },
  { name: "mtp_loss", format: few, isFromZero: true },
];

/** What a metric is called. */
export const nameOf = (metric: string): string => words.value.metric[metric] ?? metric;

/** Whether a run, or one stage of it, has any number of a metric. */
export function has(data: RunData, metric: string, stage: string | null): boolean {
  for (const own of data.stages.values()) {
    if (stage !== null && own.name !== stage) continue;
    if (metric === "tokens_per_second" ? own.tokens.some((tokens) => tokens > 0) : own.metrics.has(metric)) return true;
  }
  return false;
}
