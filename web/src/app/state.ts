// What the whole page shares: who is signed in, whether the server answers, what hangs in the rail.

import { computed, signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { session as ask, signIn, signOut, type Session } from "../api/session";

/** Null until the server has said it. */
export const session = signal<Session | null>(null);

/** Why the server was not heard of when it was last asked; null where it was. */
export const silence = signal<unknown>(null);
export const isOffline = computed(() => silence.value !== null);

/** What the view in front puts under the areas in the rail: the chat its conversations. */
export const railContent = signal<ComponentType | null>(null);

/** Whether the rail is folded away on wide windows. */
export const isRailHidden = signal(false);

/** Whether the rail is open over the page on narrow windows. */
export const isRailOpen = signal(false);

/** What names of drafts in the browser begin with, and their database's name: they go with who signs out. */
export const DRAFTS = "frugal.draft";

const KEPT = "frugal.session";

/** What the server last said of itself; it holds no secret. */
function kept(): Session | null {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "null") as Session | null;
  } catch {
    return null;
  }
}

function take(said: Session): void {
  session.value = said;
  silence.value = null;
  try {
    localStorage.setItem(KEPT, JSON.stringify(said));
  } catch {
    // Full: without the server the page will not know who was here.
  }
}

export async function enter(key: string): Promise<void> {
  take(await signIn(key));
}

export async function refreshSession(): Promise<void> {
  try {
    take(await ask());
  } catch (error) {
    silence.value = error;
    // Without the server, chats that this browser keeps can still be read, and questions written.
    session.value ??= kept();
  }
}

/** What another window was told of who is here holds for this one too, at once: what is kept goes to who is signed in. */
export function hear({ key }: StorageEvent): void {
  if (key !== KEPT) return;
  session.value = kept() ?? session.value;
  void refreshSession();
}

/** Waits until a database is gone, or will be once other windows let go of it: a page that goes away asks for nothing. */
const gone = (database: string): Promise<void> =>
  new Promise((resolve) => {
    const request = indexedDB.deleteDatabase(database);
    request.onsuccess = request.onerror = request.onblocked = () => resolve();
  });

/** Signs out. Whoever sits here next finds nothing, neither what was written nor what is in memory. */
export async function leave(): Promise<void> {
  await signOut();
  const drafts = Object.keys(localStorage).filter((name) => name.startsWith(DRAFTS));
  for (const name of [...drafts, KEPT]) localStorage.removeItem(name);
  await gone(DRAFTS);
  history.replaceState(null, "", "/");
  location.reload();
}
