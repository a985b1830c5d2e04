// How a model was made, from the words of cards and of stages.

import { words } from "./words";

export type Method = "pretrained" | "tuned" | "self_taught" | "distilled" | "quantized" | "exported" | "merged" | "imported";

const KNOWN: ReadonlyMap<string, Method> = new Map(Object.entries({
  pretrain: "pretrained",
  sft: "tuned",
  finetune: "tuned",
  adapter: "tuned",
  grpo: "self_taught",
  distill: "distilled",
  quantized: "quantized",
  exported: "exported",
  merge: "merged",
  import: "imported",
} as const));

/** The method that a word stands for; none where it is not known. */
export const methodOf = (word: string | null): Method | null => (word === null ? null : (KNOWN.get(word.toLowerCase()) ?? null));

/** For people: the method, else the card's own word; nothing where nothing is said. */
export function methodIn(word: string | null): string | null {
  const method = methodOf(word);
  if (method !== null) return words.value.methods[method];
  return word === null ? null : words.value.methods.other(word);
}

/** Pictures of methods on a grid of 24, one path each. */
export const GLYPHS: Record<Method | "origin", string> = {
  origin: "M12 15.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  pretrained: "M5 7h14M5 12h14M5 17h9",
  tuned: "M6 6h12v9H6zM9 19h6M12 15v4",
  self_taught: "M18 9a7 7 0 1 0 .8 5M19 5v4.5h-4.5",
  distilled: "M12 4c3.5 4.6 5.2 7.4 5.2 9.8a5.2 5.2 0 0 1-10.4 0C6.8 11.4 8.5 8.6 12 4z",
  quantized: "M5 5h6v6H5zM13 5h6v6h-6zM5 13h6v6H5zM13 13h6v6h-6z",
  exported: "M5 9h12l-3-3M19 15H7l3 3",
  merged: "M6 5c0 6 6 5 6 11v3M18 5c0 6-6 5-6 11",
  imported: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
};
