// Where conversations are kept: with the server, or in this browser where the server knows no keys.

import { ApiError } from "../api/http";
import { type ChatPage, listChats, loadChat, removeChat, saveChat, type StoredChat } from "../api/chats";
import { refreshSession, session, silence } from "../app/state";
import { BrowserStore } from "./browser_store";
import { type ChatStore, Conflict, type ToSave } from "./kept";

const PAGE = 60;

const isStatus = (error: unknown, status: number): boolean => error instanceof ApiError && error.status === status;

class ServerStore implements ChatStore {
  list(query: { text: string; before: string | null }): Promise<ChatPage> {
    return listChats({ ...query, limit: PAGE });
  }

  async load(id: string): Promise<StoredChat | null> {
    try {
      return await loadChat(id);
    } catch (error) {
      if (isStatus(error, 404) || isStatus(error, 400)) return null;
      throw error;
    }
  }

  async save({ id, ...rest }: ToSave): Promise<number> {
    try {
      return (await saveChat(id, rest)).revision;
    } catch (error) {
      if (!isStatus(error, 409)) throw error;
      // A chat that is another's looks the same from here as one that was changed elsewhere. Somebody else may have
      // signed in in another window; then this page lets go of what is not theirs before it goes on.
      await refreshSession();
      throw silence.value ?? new Conflict();
    }
  }

  async remove(id: string): Promise<void> {
    try {
      await removeChat(id);
    } catch (error) {
      if (!isStatus(error, 404)) throw error;
    }
  }
}

const server = new ServerStore();
const browser = new BrowserStore();

export const store = (): ChatStore => (session.value?.history === "server" ? server : browser);
