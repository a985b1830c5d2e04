// What lies over the chat: at most one of these is open.

import { signal } from "@preact/signals";

export const isSettingsOpen = signal(false);
export const isHelpOpen = signal(false);
/** Whose settings the drawer shows: the conversation's own, or those of the one beside it. */
export const whose = signal<"own" | "rival">("own");
