// What a store of conversations does, whoever keeps them.

import type { ChatPage, StoredChat } from "../api/chats";
import type { Document } from "./tree";

export type ToSave = { id: string; title: string; document: Document; revision: number };

/** Somebody else, or this page in another window, was quicker. */
export class Conflict extends Error {}

export interface ChatStore {
  list(query: { text: string; before: string | null }): Promise<ChatPage>;
  /** Null where there is none of this id. */
  load(id: string): Promise<StoredChat | null>;
  /** Gives the new revision. */
  save(chat: ToSave): Promise<number>;
  remove(id: string): Promise<void>;
}
