// Taking conversations out as files and in again; giving them names.

import { signal } from "@preact/signals";
import { go } from "../app/route";
import { say as toast } from "../ui/index";
import { readDocument } from "./document";
import { asJson, asMarkdown, fileName, fromJson } from "./exchange";
import { saveAs } from "./files";
import { entries, refreshEntries, store } from "./state";
import { titleOf, type Document } from "./tree";
import { words } from "./words";

/** The conversation that is being given another title. */
export const renaming = signal<{ id: string; title: string } | null>(null);

type Taken = { title: string; document: Document };

async function read(ids: readonly string[]): Promise<Taken[]> {
  const out: Taken[] = [];
  for (const id of ids) {
    const stored = await store().load(id);
    const document = stored && readDocument(stored.document);
    if (stored && document) out.push({ title: stored.title || titleOf(document), document });
  }
  return out;
}

export async function exportChats(ids: readonly string[], form: "json" | "markdown"): Promise<void> {
  const say = words.value;
  try {
    const chats = await read(ids);
    const [first] = chats;
    if (!first) return;
    const title = chats.length === 1 ? first.title : say.all_chats;
    if (form === "json") saveAs(fileName(title, "json"), "application/json", asJson(chats));
    else saveAs(fileName(title, "md"), "text/markdown", chats.map((chat) => asMarkdown(chat.title, chat.document, say.export_heads)).join("\n---\n\n"));
  } catch {
    toast(say.export_failed, "bad");
  }
}

/** Every conversation there is, page by page. */
export async function exportAll(): Promise<void> {
  const ids: string[] = [];
  let before: string | null = null;
  do {
    const page: Awaited<ReturnType<ReturnType<typeof store>["list"]>> = await store().list({ text: "", before });
    ids.push(...page.data.map((entry) => entry.id));
    before = page.next;
  } while (before !== null);
  await exportChats(ids, "json");
}

export async function importChats(file: File): Promise<void> {
  const say = words.value;
  const chats = fromJson(await file.text());
  if (!chats || chats.length === 0) {
    toast(say.import_none, "bad");
    return;
  }
  let last: string | null = null;
  try {
    for (const { title, document } of chats) {
      last = crypto.randomUUID();
      await store().save({ id: last, title, document, revision: 0 });
    }
    toast(say.imported(chats.length), "good");
  } catch {
    toast(say.import_failed, "bad");
  }
  await refreshEntries();
  if (chats.length === 1 && last !== null) go("chat", last);
}

export const hasEntries = (): boolean => entries.value.data.length > 0;
