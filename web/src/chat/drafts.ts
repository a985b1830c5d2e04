// What was typed and not sent, kept by this browser: the words with each key, the files in a database.

import { DRAFTS, session } from "../app/state";
import type { Conversation } from "./conversation";
import { answer, Database, written } from "./database";
import type { TextFile } from "./tree";

/** What stands in a conversation's composer. */
export type Draft = { readonly text: string; readonly files: readonly TextFile[] };

export const EMPTY: Draft = { text: "", files: [] };

/** Of so many drafts the files are kept, those that were touched last. */
const MOST_DRAFTS = 20;

type KeptFiles = { name: string; at: number; files: readonly TextFile[] };

const database = new Database(DRAFTS, "files", "name", "at");

/** Nobody finds what another key was writing. */
const named = (id: string): string => `${DRAFTS}.${session.value?.name ?? ""}.${id}`;
/** New conversations share one: leaving and coming back finds it. */
const nameOf = (conversation: Conversation): string => named(conversation.isKept ? conversation.id : "new");

/** Conversations whose files are on their way. */
const restoring = new WeakMap<Conversation, Promise<void>>();

/** Waits until a conversation has the files that were being written with in it. */
export const restored = async (conversation: Conversation): Promise<void> => restoring.get(conversation);

/** Gives a conversation back what was being written in it; its files come a little later. */
export function restore(conversation: Conversation): void {
  const name = nameOf(conversation);
  const begun: Draft = { text: localStorage.getItem(name) ?? "", files: [] };
  conversation.draft.value = begun;
  const coming = filesOf(name).then((files) => {
    const { value: now } = conversation.draft;
    // Unless it was sent meanwhile.
    if (now.files === begun.files) conversation.draft.value = { ...now, files };
  });
  restoring.set(conversation, coming);
}

/** Changes what stands in a conversation's composer. */
export function write(conversation: Conversation, part: Partial<Draft>): void {
  const { value: before } = conversation.draft;
  const now = { ...before, ...part };
  const name = nameOf(conversation);
  conversation.draft.value = now;
  if (now.text !== before.text) keepText(name, now.text);
  if (now.files !== before.files) void keepFiles(name, now.files);
}

/** Throws a conversation's draft away with it. */
export function discard(id: string): void {
  keepText(named(id), "");
  void keepFiles(named(id), []);
}

function keepText(name: string, text: string): void {
  try {
    if (text === "") localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {
    // Full: it is still in the field.
  }
}

async function filesOf(name: string): Promise<readonly TextFile[]> {
  try {
    const kept = (await answer((await database.within("readonly")).get(name))) as KeptFiles | undefined;
    return kept?.files ?? [];
  } catch {
    return [];
  }
}

async function keepFiles(name: string, files: readonly TextFile[]): Promise<void> {
  try {
    const store = await database.within("readwrite");
    if (files.length === 0) store.delete(name);
    else store.put({ name, at: Date.now(), files } satisfies KeptFiles);
    const oldest = await answer(store.index("at").getAllKeys());
    for (const old of oldest.slice(0, -MOST_DRAFTS)) store.delete(old);
    await written(store);
  } catch {
    // Full: they are still in the composer.
  }
}
