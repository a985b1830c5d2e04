// Text files that are put into a prompt.

import { tokenize } from "../api/chat";
import { warm } from "./served";
import type { TextFile } from "./tree";

/** Bytes of one file. More than that is no question. */
const MOST_BYTES = 2_000_000;
/** Of all files of a question: a conversation with more would not be kept by a server. */
const MOST_BYTES_TOGETHER = 3_000_000;
const MOST_FILES = 20;

/** Why a file was not taken. */
export type Refusal = { name: string; why: "large" | "binary" | "many" | "together" };

/** Reads files as text. What is none, or too large, is refused by name. */
export async function readFiles(files: Iterable<File>, already: readonly TextFile[]): Promise<{ taken: TextFile[]; refused: Refusal[] }> {
  const taken: TextFile[] = [];
  const refused: Refusal[] = [];
  let bytes = already.reduce((sum, { text }) => sum + new Blob([text]).size, 0);
  for (const file of files) {
    if (already.length + taken.length >= MOST_FILES) refused.push({ name: file.name, why: "many" });
    else if (file.size > MOST_BYTES) refused.push({ name: file.name, why: "large" });
    else {
      const text = await textOf(file);
      if (text === null) refused.push({ name: file.name, why: "binary" });
      else if (bytes + file.size > MOST_BYTES_TOGETHER) refused.push({ name: file.name, why: "together" });
      else {
        bytes += file.size;
        taken.push({ name: file.name, text, tokens: null });
      }
    }
  }
  return { taken, refused };
}

async function textOf(file: File): Promise<string | null> {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    return text.includes("\0") ? null : text.replace(/\r\n?/g, "\n");
  } catch {
    return null;
  }
}

/** How many tokens a text is for a model; null where that cannot be told. */
export async function countTokens(model: string, text: string): Promise<number | null> {
  try {
    const { count } = await tokenize({ model, prompt: text, add_special_tokens: false });
    warm.add(model);
    return count;
  } catch {
    return null;
  }
}
