// Conversations in the browser's own database.

import type { ChatEntry, ChatPage, StoredChat } from "../api/chats";
import { answer, Database, written } from "./database";
import { type ChatStore, Conflict, type ToSave } from "./kept";
import type { Document, Turn } from "./tree";

const PAGE = 60;

type Kept = StoredChat & { document: Document };

const database = new Database("frugal", "chats", "id", "updated_at");

const entryOf = ({ id, title, updated_at, revision, document }: Kept): ChatEntry => ({
  id,
  title,
  updated_at,
  revision,
  model: document.model,
  turns: Object.keys(document.nodes).length,
});

/** Whether every word stands somewhere in the title or the turns. */
function holds({ title, document }: Kept, wanted: readonly string[]): boolean {
  const turns: Turn[] = Object.values(document.nodes);
  const has = (word: string): boolean =>
    title.toLowerCase().includes(word) || turns.some((turn) => turn.content.toLowerCase().includes(word));
  return wanted.every(has);
}

export class BrowserStore implements ChatStore {
  async list({ text, before }: { text: string; before: string | null }): Promise<ChatPage> {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const store = await database.within("readonly");
    const range = before === null ? null : IDBKeyRange.upperBound(Number(before), true);
    const request = store.index("updated_at").openCursor(range, "prev");
    const data: ChatEntry[] = [];
    return new Promise((resolve, reject) => {
      request.onerror = () => reject(request.error ?? new Error("the browser's database refused"));
      request.onsuccess = () => {
        const cursor = request.result;
        const last = data.at(-1);
        if (!cursor) return resolve({ data, next: null });
        if (data.length >= PAGE && last) return resolve({ data, next: String(last.updated_at) });
        const chat = cursor.value as Kept;
        if (words.length === 0 || holds(chat, words)) data.push(entryOf(chat));
        cursor.continue();
      };
    });
  }

  async load(id: string): Promise<StoredChat | null> {
    return ((await answer((await database.within("readonly")).get(id))) as Kept | undefined) ?? null;
  }

  async save({ id, title, document, revision }: ToSave): Promise<number> {
    const store = await database.within("readwrite");
    const before = (await answer(store.get(id))) as Kept | undefined;
    if ((before?.revision ?? 0) !== revision) throw new Conflict();
    // Fine enough that no two have the same, which pages are found by.
    const kept: Kept = { id, title, document, revision: revision + 1, updated_at: Date.now() / 1000 };
    store.put(kept);
    await written(store);
    return kept.revision;
  }

  async remove(id: string): Promise<void> {
    const store = await database.within("readwrite");
    store.delete(id);
    await written(store);
  }
}
