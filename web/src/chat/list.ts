// The list of conversations, as it is searched.

import { signal } from "@preact/signals";
import type { ChatEntry } from "../api/chats";
import { ApiError } from "../api/http";
import { refreshSession } from "../app/state";
import { store } from "./store";

export const search = signal("");

type Entries = { data: ChatEntry[]; next: string | null; state: "loading" | "there" | "failed" };
const NONE: Entries = { data: [], next: null, state: "loading" };
export const entries = signal(NONE);

let asked = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

export const refreshEntries = (): Promise<void> => ask(null);

/** The same, once what changes quickly has settled. */
export function refreshEntriesSoon(): void {
  clearTimeout(timer);
  timer = setTimeout(() => void refreshEntries(), 200);
}

export async function moreEntries(): Promise<void> {
  const { next } = entries.value;
  if (next !== null) await ask(next);
}

/** Shows nothing of it any more. */
export function forgetEntries(): void {
  asked += 1;
  search.value = "";
  entries.value = NONE;
}

async function ask(before: string | null): Promise<void> {
  const own = ++asked;
  try {
    const { data, next } = await store().list({ text: search.value, before });
    if (own === asked) entries.value = { data: before === null ? data : [...entries.value.data, ...data], next, state: "there" };
  } catch (error) {
    if (own === asked) entries.value = { ...entries.value, state: "failed" };
    seeWhoAsks(error);
  }
}

/** A session that has ended is found out by asking for what is one's own: the frame then asks for a key. */
export function seeWhoAsks(error: unknown): void {
  if (error instanceof ApiError && error.status === 401) void refreshSession();
}
