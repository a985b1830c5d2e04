// Conversations as files: JSON, whole, to be taken in again; Markdown, the branch in front, to be read.

import { readDocument } from "./document";
import { type Document, pathTo, titleOf } from "./tree";

const FORMAT = "frugal-chats";

type Exported = { title: string; document: Document };

export const asJson = (chats: readonly Exported[]): string =>
  `${JSON.stringify({ format: FORMAT, version: 1, chats }, null, 1)}\n`;

/** The conversations of such a file; null if it is none. */
export function fromJson(text: string): Exported[] | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const { format, chats } = (value ?? {}) as { format?: unknown; chats?: unknown };
  if (format !== FORMAT || !Array.isArray(chats)) return null;
  return chats.flatMap((chat: { title?: unknown; document?: unknown } | null) => {
    const document = readDocument(chat?.document);
    return document ? [{ title: typeof chat?.title === "string" ? chat.title : titleOf(document), document }] : [];
  });
}

/** Words that Markdown's own headings are made of. */
export type Heads = { question: string; answer: (model: string) => string; thought: string; system: string };

/** A fence longer than any in the text. */
function fenced(text: string, language: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`{3,}/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}

export function asMarkdown(title: string, document: Document, heads: Heads): string {
  const parts = [`# ${title.replace(/\s+/g, " ")}`];
  if (document.system.trim() !== "") parts.push(`## ${heads.system}`, document.system);
  for (const turn of pathTo(document, document.leaf)) {
    if (turn.role === "user") {
      parts.push(`## ${heads.question}`);
      for (const file of turn.files) parts.push(`**${file.name}**`, fenced(file.text, ""));
    } else {
      parts.push(`## ${heads.answer(turn.model ?? "")}`);
      if (turn.reasoning) {
        const quoted = turn.reasoning.trim().replace(/^/gm, "> ");
        parts.push(`> **${heads.thought}**\n>\n${quoted}`);
      }
    }
    parts.push(turn.content.trim());
  }
  return `${parts.filter(Boolean).join("\n\n")}\n`;
}

/** A name that every file system takes. */
export function fileName(title: string, ending: string): string {
  const name = title
    .normalize("NFC")
    .replace(/[\p{Cc}\\/:*?"<>|]+/gu, " ")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, 80);
  return `${name === "" || name.startsWith(".") ? "chat" : name}.${ending}`;
}
