// What parts of the view tell one another.

import { signal } from "@preact/signals";
import type { Conversation } from "./conversation";
import { pathTo } from "./tree";

/** The question that is being asked otherwise. */
export const editing = signal<string | null>(null);

/** Files that were dropped onto the page, until the composer takes them. */
export const dropped = signal<File[]>([]);

/** Counts up when the composer is to have the focus. */
export const focusComposer = signal(0);

/** Opens the last question for editing; false where there is none. */
export function editLast(conversation: Conversation): boolean {
  const { value: document } = conversation.document;
  const last = pathTo(document, document.leaf).findLast((turn) => turn.role === "user");
  if (!last) return false;
  editing.value = last.id;
  return true;
}
