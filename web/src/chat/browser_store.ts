// Conversations in the browser's own database.

import type { ChatEntry, ChatPage, StoredChat } from "../api/chats";
import { type ChatStore, Conflict, type ToSave } from "./kept";
import type { Document, Turn } from "./tree";

const DATABASE = "frugal";
const CHATS = "chats";
const PAGE = 60;

type Kept = StoredChat & { document: Document };

/** The answer to a request of the database. */
const answer = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the browser's database refused"));
  });

let opened: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
  opened ??= (async () => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
      const chats = request.result.createObjectStore(CHATS, { keyPath: "id" });
      chats.createIndex("updated_at", "updated_at");
    };
    const database = await answer(request);
    // A newer page in another window may want to change it.
    database.onversionchange = () => database.close();
    return database;
  })();
  // A browser that lets no page keep anything says so each time it is asked.
  opened.catch(() => (opened = null));
  return opened;
}

const chats = async (mode: IDBTransactionMode): Promise<IDBObjectStore> =>
  (await open()).transaction(CHATS, mode).objectStore(CHATS);

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
    const store = await chats("readonly");
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
    return ((await answer((await chats("readonly")).get(id))) as Kept | undefined) ?? null;
  }

  async save({ id, title, document, revision }: ToSave): Promise<number> {
    const store = await chats("readwrite");
    const before = (await answer(store.get(id))) as Kept | undefined;
    if ((before?.revision ?? 0) !== revision) throw new Conflict();
    // Fine enough that no two have the same, which pages are found by.
    const kept: Kept = { id, title, document, revision: revision + 1, updated_at: Date.now() / 1000 };
    await answer(store.put(kept));
    return kept.revision;
  }

  async remove(id: string): Promise<void> {
    await answer((await chats("readwrite")).delete(id));
  }
}
