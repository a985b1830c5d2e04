// Conversations kept by the server, one owner a key. What a document holds is the page's affair.

import { request } from "./http";

export type ChatEntry = {
  id: string;
  title: string;
  updated_at: number;
  revision: number;
  model: string | null;
  turns: number;
};

export type StoredChat = { id: string; title: string; updated_at: number; revision: number; document: unknown };

export type ChatPage = { data: ChatEntry[]; next: string | null };

export function listChats({ text, before, limit }: { text: string; before: string | null; limit: number }): Promise<ChatPage> {
  const query = new URLSearchParams({ limit: String(limit) });
  if (text !== "") query.set("q", text);
  if (before !== null) query.set("before", before);
  return request("GET", `/web/chats?${query.toString()}`);
}

const path = (id: string): string => `/web/chats/${encodeURIComponent(id)}`;

export const loadChat = (id: string): Promise<StoredChat> => request("GET", path(id));

export const saveChat = (
  id: string,
  body: { title: string; document: unknown; revision: number },
): Promise<{ revision: number; updated_at: number }> => request("PUT", path(id), { body });

export const removeChat = (id: string): Promise<void> => request("DELETE", path(id));
