// How evenly experts were used, put together for showing: what came in each part of the time.

import { number } from "../i18n/format";
import type { RunData } from "./data";
import { words } from "./words";

/** The shares of every expert of every layer at a time, and which time. */
export type Moment = { label: string; layers: number[][] };

/** What a run or one stage of it told; of models of several shapes the newest. */
export function loads(data: RunData, stage: string | null): Moment[] {
  let out: Moment[] = [];
  let shape = "";
  for (const own of data.stages.values()) {
    if (stage !== null && own.name !== stage) continue;
    for (const { step, layers } of own.loads) {
      const now = layers.map((layer) => layer.length).join();
      if (now !== shape) [out, shape] = [[], now];
      out.push({ label: `${own.name}, ${words.value.at_step(number(step))}`, layers });
    }
  }
  return out;
}

/** The time in so many parts: of each the mean loads, under the name of its first. */
export function parts(all: readonly Moment[], n: number): Moment[] {
  return Array.from({ length: Math.min(n, all.length) }, (_, place) => {
    const [from, to] = [place, place + 1].map((at) => Math.floor((at * all.length) / Math.min(n, all.length)));
    const own = all.slice(from, to);
    const first = own[0] ?? { label: "", layers: [] };
    const mean = (layer: number, expert: number): number =>
      own.reduce((sum, load) => sum + (load.layers[layer]?.[expert] ?? 0), 0) / own.length;
    return { label: first.label, layers: first.layers.map((layer, at) => layer.map((_, expert) => mean(at, expert))) };
  });
}

/** A share as a multiple of the even one. */
export const times = (share: number, layer: readonly number[]): string => {
  const value = share * layer.length;
  return `${number(value, { maximumFractionDigits: value < 10 ? 1 : 0 })}×`;
};
