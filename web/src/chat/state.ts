// What the chat view shows: the models there are, the conversation in front, the list of all.

import { effect, signal } from "@preact/signals";
import { type ModelCard, modelCards, type ServedModel, servedModels } from "../api/chat";
import type { ChatEntry } from "../api/chats";
import { ApiError, isAborted } from "../api/http";
import { go, route } from "../app/route";
import { isOffline, session } from "../app/state";
import { Conversation } from "./conversation";
import { readDocument } from "./document";
import type { ChatStore } from "./kept";
import { type Thinking, USUAL } from "./settings";
import { storeFor } from "./store";
import { emptyDocument } from "./tree";

const MODEL = "frugal.model";
const THINKING = "frugal.thinking";

export const models = signal<ServedModel[] | null>(null);
export const cards = signal<ReadonlyMap<string, ModelCard>>(new Map());
/** Tokens that a conversation with a model may have, as far as it is known. */
export const contexts = signal<ReadonlyMap<string, number>>(new Map());
/** Models that have answered this page: asking them to count tokens loads nothing. */
export const warm = new Set<string>();

/** The conversation in front; null while one is being fetched. */
export const current = signal<Conversation | null>(null);
/** Set where the address names a conversation that is not there, or could not be fetched. */
export const missing = signal<"gone" | "failed" | null>(null);

/** Those that are being answered stay, also behind others. */
const open = new Map<string, Conversation>();

export const store = (): ChatStore => storeFor(session.value?.history ?? "browser");

/** Asks for the models and, where there is a catalogue, for what it knows of them. */
export async function refreshModels(): Promise<void> {
  try {
    models.value = await servedModels();
    isOffline.value = false;
  } catch (error) {
    if (!(error instanceof ApiError) && !isAborted(error)) isOffline.value = true;
    models.value ??= [];
    return;
  }
  const known = new Map(contexts.value);
  for (const { id, max_model_len } of models.value) if (max_model_len) known.set(id, max_model_len);
  contexts.value = known;
  try {
    cards.value = new Map((await modelCards()).map((card) => [card.name, card]));
  } catch {
    // An older server, or a key that may not see it: the list alone does.
  }
}

/** The model that a new conversation begins with. */
export function usualModel(): string | null {
  const names = (models.value ?? []).map((model) => model.id);
  const wanted = [localStorage.getItem(MODEL), session.value?.default_model];
  return wanted.find((name): name is string => !!name && names.includes(name)) ?? names[0] ?? null;
}

export function rememberModel(name: string): void {
  localStorage.setItem(MODEL, name);
}

export function rememberThinking(thinking: Thinking): void {
  localStorage.setItem(THINKING, JSON.stringify(thinking));
}

function keptThinking(): Thinking {
  try {
    const kept = JSON.parse(localStorage.getItem(THINKING) ?? "null") as Thinking | null;
    if (kept?.mode === "on" || kept?.mode === "off") return kept;
  } catch {
    // As if nothing had been kept.
  }
  return USUAL.thinking;
}

function fresh(): Conversation {
  const document = emptyDocument(usualModel(), { ...USUAL, thinking: keptThinking() });
  return new Conversation(crypto.randomUUID(), document, store(), refreshEntriesSoon);
}

let owner: string | null | undefined;

/** Lets go of what belongs to somebody else, where another key signs in. */
export function ownedBy(name: string | null): void {
  if (owner !== undefined && owner !== name) {
    for (const conversation of open.values()) conversation.live.value.forEach((live) => live.stop());
    open.clear();
    warm.clear();
    current.value = null;
    search.value = "";
    entries.value = { data: [], next: null, state: "loading" };
  }
  owner = name;
}

/** Puts the conversation of the address in front; without an id a new one. */
export async function show(id: string | null): Promise<void> {
  missing.value = null;
  if (id === null) {
    // An empty one is as good as new.
    if (!current.value || current.value.isKept) current.value = fresh();
    return;
  }
  if (current.value?.id === id) return;
  const known = open.get(id);
  if (known) {
    current.value = known;
    return;
  }
  current.value = null;
  try {
    const stored = await store().load(id);
    if (route.value.id !== id) return;
    const document = stored && readDocument(stored.document);
    if (stored && document) current.value = new Conversation(id, document, store(), refreshEntriesSoon, stored);
    else missing.value = "gone";
  } catch {
    missing.value = "failed";
  }
}

/** Keeps a conversation at hand as long as it is being answered. */
export function hold(conversation: Conversation): void {
  open.set(conversation.id, conversation);
  const end = effect(() => {
    if (conversation.live.value.size > 0) return;
    queueMicrotask(() => {
      if (conversation.isAnswering) return;
      open.delete(conversation.id);
      end();
    });
  });
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
  const conversation = fresh();
  current.value = conversation;
  // Which models there are may not be known yet.
  conversation.change({ ...conversation.document.value, model });
  go("chat");
}

// The list

export const search = signal("");
export const entries = signal<{ data: ChatEntry[]; next: string | null; state: "loading" | "there" | "failed" }>({
  data: [],
  next: null,
  state: "loading",
});

let asked = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

export async function refreshEntries(): Promise<void> {
  const own = ++asked;
  try {
    const { data, next } = await store().list({ text: search.value, before: null });
    if (own === asked) entries.value = { data, next, state: "there" };
  } catch {
    if (own === asked) entries.value = { ...entries.value, state: "failed" };
  }
}

export function refreshEntriesSoon(): void {
  clearTimeout(timer);
  timer = setTimeout(() => void refreshEntries(), 200);
}

export async function moreEntries(): Promise<void> {
  const { data, next } = entries.value;
  if (next === null) return;
  const own = ++asked;
  const more = await store().list({ text: search.value, before: next });
  if (own === asked) entries.value = { data: [...data, ...more.data], next: more.next, state: "there" };
}

/** Gives a conversation another title, whether it is in front or not. */
export async function rename(id: string, title: string): Promise<void> {
  const here = current.value?.id === id ? current.value : open.get(id);
  if (here) {
    here.rename(title);
    await here.save();
  } else {
    const stored = await store().load(id);
    const document = stored && readDocument(stored.document);
    if (stored && document) await store().save({ id, title, document, revision: stored.revision });
  }
  await refreshEntries();
}

export async function remove(id: string): Promise<void> {
  const here = current.value?.id === id ? current.value : open.get(id);
  open.delete(id);
  if (here) await here.forget();
  else await store().remove(id);
  localStorage.removeItem(draftKey(id));
  if (current.value?.id === id) {
    current.value = null;
    go("chat", null, "replace");
    await show(null);
  }
  await refreshEntries();
}

// What was typed and not sent

const draftKey = (id: string): string => `frugal.draft.${id}`;
/** New conversations share one: leaving and coming back finds it. */
const draftName = (conversation: Conversation): string => draftKey(conversation.isKept ? conversation.id : "new");

export const draftOf = (conversation: Conversation): string => localStorage.getItem(draftName(conversation)) ?? "";

export function keepDraft(conversation: Conversation, text: string): void {
  const name = draftName(conversation);
  try {
    if (text === "") localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {
    // Full: it is still in the field.
  }
}
