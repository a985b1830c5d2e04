// Taking conversations out as files and in again; giving them names; throwing them away.

import { signal } from "@preact/signals";
import type { ChatPage } from "../api/chats";
import { go } from "../app/route";
import { confirm, say as toast } from "../ui/index";
import { asJson, asMarkdown, fileName, fromJson } from "./exchange";
import { entries, refreshEntries } from "./list";
import { find, remove, rename } from "./state";
import { store } from "./store";
import { titleOf, type Document } from "./tree";
import { words } from "./words";

/** The conversation that is being given another title. */
export const renaming = signal<{ id: string; title: string } | null>(null);

type Taken = { title: string; document: Document };

async function read(ids: readonly string[]): Promise<Taken[]> {
  const out: Taken[] = [];
  for (const id of ids) {
    const found = await find(id);
    if (found) out.push({ title: found.title || titleOf(found.document), document: found.document });
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
  try {
    let before: string | null = null;
    do {
      const page: ChatPage = await store().list({ text: "", before });
      ids.push(...page.data.map((entry) => entry.id));
      before = page.next;
    } while (before !== null);
  } catch {
    toast(words.value.export_failed, "bad");
    return;
  }
  await exportChats(ids, "json");
}

/** A file to be kept by the browser. */
function saveAs(name: string, type: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Asks, and then throws a conversation away. */
export async function removeChat(id: string, title: string): Promise<void> {
  const say = words.value;
  const about = { title: say.remove_title, words: say.remove_words(title), yes: say.remove, no: say.cancel, isDanger: true };
  if (!(await confirm(about))) return;
  try {
    await remove(id);
  } catch {
    toast(say.remove_failed, "bad");
  }
}

export async function renameChat(id: string, title: string): Promise<void> {
  try {
    await rename(id, title);
  } catch {
    toast(words.value.rename_failed, "bad");
  }
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
