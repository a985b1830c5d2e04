// Text files that are put into a prompt.

import { tokenize } from "../api/chat";
import { warm } from "./state";
import type { TextFile } from "./tree";

/** Bytes of one file. More than that is no question. */
export const MOST_BYTES = 2_000_000;
export const MOST_FILES = 20;

/** Why a file was not taken. */
export type Refusal = { name: string; why: "large" | "binary" | "many" };

/** Reads files as text. What is none, or too large, is refused by name. */
export async function readFiles(files: Iterable<File>, already: number): Promise<{ taken: TextFile[]; refused: Refusal[] }> {
  const taken: TextFile[] = [];
  const refused: Refusal[] = [];
  for (const file of files) {
    if (already + taken.length >= MOST_FILES) refused.push({ name: file.name, why: "many" });
    else if (file.size > MOST_BYTES) refused.push({ name: file.name, why: "large" });
    else {
      const text = await textOf(file);
      if (text === null) refused.push({ name: file.name, why: "binary" });
      else taken.push({ name: file.name, text, tokens: null });
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

/** A file to be kept by the browser. */
export function saveAs(name: string, type: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
