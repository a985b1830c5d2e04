// Who is asking, and what this server offers.

import { ApiError, request } from "./http";

export type Price = { currency: string; per_core_hour: number; watts_per_core: number };

export type Session = {
  /** Whether the server asks for keys. */
  keyed: boolean;
  /** Whose key it is; null where nobody is signed in. */
  name: string | null;
  may_manage: boolean;
  version: string | null;
  default_model: string | null;
  /** Where chats are kept. */
  history: "server" | "browser";
  runs: boolean;
  price: Price | null;
};

const PATH = "/web/session";

/** A server that knows no sessions has no keys either, as far as this page can tell. */
const KEYLESS: Session = {
  keyed: false,
  name: null,
  may_manage: false,
  version: null,
  default_model: null,
  history: "browser",
  runs: false,
  price: null,
};

export async function session(): Promise<Session> {
  try {
    return await request<Session>("GET", PATH);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return KEYLESS;
    throw error;
  }
}

export const signIn = (key: string): Promise<Session> => request<Session>("POST", PATH, { body: { key } });

export const signOut = (): Promise<void> => request<void>("DELETE", PATH);
