// How a model was made, from the words of cards and of stages.

import { words } from "./words";

export type Method = "pretrained" | "tuned" | "self_taught" | "distilled" | "quantized" | "exported" | "merged" | "imported";

const KNOWN: Record<string, Method> = {
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
};

/** The method that a word stands for; none where it is not known. */
export const methodOf = (word: string | null): Method | null => (word === null ? null : (KNOWN[word.toLowerCase()] ?? null));

/** For people: the method, else the card's own word; nothing where nothing is said. */
export function methodIn(word: string | null): string | null {
  const method = methodOf(word);
  if (method !== null) return words.value.methods[method];
  return word === null ? null : words.value.methods.other(word);
}
