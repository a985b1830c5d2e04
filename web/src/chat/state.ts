// The conversation in front, and those that are open behind it.

import { effect, signal, untracked } from "@preact/signals";
import { go, route } from "../app/route";
import { session } from "../app/state";
import { Conversation } from "./conversation";
import { readDocument } from "./document";
import { discard, restore } from "./drafts";
import { forgetEntries, refreshEntries, refreshEntriesSoon, seeWhoAsks } from "./list";
import { rememberModel, usualModel, usualSettings, warm } from "./served";
import { store } from "./store";
import { type Document, emptyDocument } from "./tree";

/** Null while it is being fetched. */
export const current = signal<Conversation | null>(null);
/** Set where the address names a conversation that is not there, or could not be fetched. */
export const missing = signal<"gone" | "failed" | null>(null);

/** Those that are in front, are being answered, or are not wholly kept. */
const open = new Map<string, Conversation>();

/** Puts a conversation in front. Of those behind it, what the store has whole is let go of. */
function bring(conversation: Conversation): void {
  if (!open.has(conversation.id)) restore(conversation);
  open.set(conversation.id, conversation);
  current.value = conversation;
  for (const [id, other] of open) if (other !== conversation && other.isSettled) open.delete(id);
}

const begun = (id: string, document: Document, stored?: { title: string; revision: number }): Conversation =>
  new Conversation(id, document, store(), refreshEntriesSoon, stored);

const fresh = (model = usualModel()): Conversation => begun(crypto.randomUUID(), emptyDocument(model, usualSettings()));

let shown = 0;

/** Puts the conversation of the address in front; without an id a new one. */
export async function show(id: string | null): Promise<void> {
  const own = ++shown;
  missing.value = null;
  if (id === null) {
    // An empty one is as good as new.
    if (!current.value || current.value.isKept) bring(fresh());
    return;
  }
  if (current.value?.id === id) return;
  const known = open.get(id);
  if (known) return bring(known);
  current.value = null;
  try {
    const stored = await store().load(id);
    if (own !== shown) return;
    const document = stored && readDocument(stored.document);
    if (stored && document) bring(begun(id, document, stored));
    else missing.value = "gone";
  } catch (error) {
    if (own !== shown) return;
    missing.value = "failed";
    seeWhoAsks(error);
  }
}

export const isAnswering = (id: string): boolean => open.get(id)?.isAnswering ?? false;

/** Brings a new conversation forward. */
export function startNew(): void {
  go("chat");
  if (route.value.id === null) void show(null);
}

/** Begins a new conversation with a model. */
export function startWith(model: string): void {
  rememberModel(model);
  // Which models there are may not be known yet.
  bring(fresh(model));
  go("chat");
}

/** A conversation as it stands, whether it is open or not. */
export async function find(id: string): Promise<{ title: string; document: Document } | null> {
  const here = open.get(id);
  if (here) return { title: here.title.value, document: here.snapshot() };
  const stored = await store().load(id);
  const document = stored && readDocument(stored.document);
  return stored && document && { title: stored.title, document };
}

/** Gives a conversation another title, whether it is open or not. */
export async function rename(id: string, title: string): Promise<void> {
  const here = open.get(id);
  if (here) {
    here.rename(title);
    await here.save();
    if (here.unsaved.value !== null) throw here.unsaved.value;
  } else {
    const stored = await store().load(id);
    const document = stored && readDocument(stored.document);
    if (stored && document) await store().save({ id, title, document, revision: stored.revision });
  }
  await refreshEntries();
}

/** Removes a conversation for good. */
export async function remove(id: string): Promise<void> {
  const here = open.get(id);
  await (here ? here.remove() : store().remove(id));
  open.delete(id);
  discard(id);
  if (current.value?.id === id) {
    current.value = null;
    go("chat", null, "replace");
    await show(null);
  }
  await refreshEntries();
}

let owner: string | null = null;

/** Lets go of what belongs to somebody else, before anything of it is shown or kept for another key. */
effect(() => {
  const name = session.value?.name ?? null;
  // Who signs in again goes on where the session ended.
  if (name === null || name === owner) return;
  owner = name;
  untracked(() => {
    for (const conversation of open.values()) conversation.close();
    open.clear();
    warm.clear();
    // What is still being fetched is not brought forward.
    shown += 1;
    current.value = null;
    forgetEntries();
  });
});
