// What went wrong, in plain words, and what to do about it.

import { ApiError, NoConnection } from "../api/http";
import { words } from "./words";

/** What can be done about a fault from where it is shown. */
export type Remedy = "again" | "continue" | "sign in" | "new chat" | "models" | "settings";

export type Explained = { title: string; about: string; remedies: Remedy[] };

/** Explains a fault of an answer; `hasText` where something had come before it. */
export function explain(fault: unknown, hasText: boolean): Explained {
  const say = words.value.faults;
  const retry: Remedy = hasText ? "continue" : "again";
  if (fault instanceof NoConnection)
    return { title: hasText ? say.lost : say.unreachable, about: hasText ? say.lost_about : say.unreachable_about, remedies: [retry] };
  if (!(fault instanceof ApiError)) return { title: say.own, about: String(fault), remedies: [retry] };
  const { status, code, message, retryAfter, param } = fault;
  const later = retryAfter === null ? say.later : say.later_in(retryAfter);
  if (code === "context_length_exceeded") return { title: say.context, about: say.context_about(message), remedies: ["new chat"] };
  if (code === "insufficient_quota" || status === 402) return { title: say.quota, about: say.quota_about, remedies: [] };
  switch (status) {
    case 400:
      return { title: say.refused, about: sentence(message), remedies: param === null ? [] : ["settings", retry] };
    case 401:
      return { title: say.key, about: say.key_about, remedies: ["sign in"] };
    case 403:
      return { title: say.forbidden, about: sentence(message), remedies: ["models"] };
    case 404:
      return { title: say.no_model, about: say.no_model_about, remedies: ["models", retry] };
    case 413:
      return { title: say.large, about: say.large_about, remedies: ["new chat"] };
    case 429:
      return { title: say.busy, about: later, remedies: [retry] };
    case 503:
      if (code === "model_cannot_be_loaded") return { title: say.cannot_load, about: `${sentence(message)} ${say.cannot_load_about}`, remedies: ["models", retry] };
      return { title: say.unavailable, about: `${sentence(message)} ${later}`.trim(), remedies: [retry, "models"] };
    default:
      return { title: say.server(status), about: sentence(message), remedies: [retry] };
  }
}

/** What the reader is asked to choose otherwise before an answer is tried again. */
export function toMend(fault: unknown): "model" | "settings" | null {
  if (!(fault instanceof ApiError)) return null;
  const { status, code, param } = fault;
  if (status === 404 || code === "model_cannot_be_loaded") return "model";
  return status === 400 && param !== null ? "settings" : null;
}

/** Why a conversation could not be saved, and what that means. */
export function explainUnsaved(fault: unknown): string {
  const why = fault instanceof ApiError ? sentence(fault.message) : "";
  return `${why} ${words.value.unsaved_about}`.trim();
}

/** The server's words as a sentence. */
function sentence(message: string): string {
  if (message === "") return "";
  return message[0]?.toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
}
