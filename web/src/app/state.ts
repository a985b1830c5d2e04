// What the whole page shares: who is signed in, whether the server answers, what hangs in the rail.

import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { isAborted, NoConnection } from "../api/http";
import { session as ask, signOut, type Session } from "../api/session";

/** Null until the server has said it. */
export const session = signal<Session | null>(null);

/** Whether the server was last heard of. */
export const isOffline = signal(false);

/** What the view in front puts under the areas in the rail: the chat its conversations. */
export const railContent = signal<ComponentType | null>(null);

/** Whether the rail is folded away on wide windows. */
export const isRailHidden = signal(false);

/** Whether the rail is open over the page on narrow windows. */
export const isRailOpen = signal(false);

const KEPT = "frugal.session";

/** What the server last said of itself; it holds no secret. */
function kept(): Session | null {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "null") as Session | null;
  } catch {
    return null;
  }
}

export async function refreshSession(): Promise<void> {
  try {
    session.value = await ask();
    isOffline.value = false;
    localStorage.setItem(KEPT, JSON.stringify(session.value));
  } catch (error) {
    if (isAborted(error)) return;
    isOffline.value = true;
    // Without the server, chats that this browser keeps can still be read, and questions written.
    session.value ??= kept();
    if (!(error instanceof NoConnection)) throw error;
  }
}

export async function leave(): Promise<void> {
  await signOut();
  // Whoever sits here next finds nothing that was being written.
  const drafts = Object.keys(localStorage).filter((name) => name.startsWith("frugal.draft."));
  for (const name of drafts) localStorage.removeItem(name);
  await refreshSession();
}
