// From a path of turns to the messages of a request.

import type { Message } from "../api/chat";
import type { TextFile, Turn } from "./tree";

/** A file as DeepSeek's own app puts it into a prompt, which is what its models have learnt. */
function fileText({ name, text }: TextFile): string {
  return `[file name]: ${name.replace(/\s+/g, " ")}\n[file content begin]\n${text}\n[file content end]\n`;
}

/** What a user's turn says, its files before its words. */
export const said = (turn: Pick<Turn, "content" | "files">): string =>
  turn.files.map(fileText).join("") + turn.content;

/** The messages up to a question. Thoughts of earlier answers are not sent: models do without. */
export function messages(system: string, path: readonly Turn[]): Message[] {
  const out: Message[] = system.trim() === "" ? [] : [{ role: "system", content: system }];
  for (const turn of path) {
    if (turn.role === "user") out.push({ role: "user", content: said(turn) });
    // An answer that came to nothing is none; the question before it stands.
    else if (turn.content !== "") out.push({ role: "assistant", content: turn.content });
  }
  return out;
}

/** The messages with an answer that broke off as the last one, to be gone on with. */
export function continued(system: string, path: readonly Turn[], broken: Turn): Message[] {
  const last: Message = { role: "assistant", content: broken.content, prefix: true };
  if (broken.reasoning !== null && broken.reasoning !== "") last.reasoning_content = broken.reasoning;
  return [...messages(system, path), last];
}
