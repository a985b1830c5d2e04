// What the keyboard does, wherever the focus is.

import { copyText, say as toast } from "../ui/index";
import { isRailOpen, isRailHidden } from "../app/state";
import { stopAll } from "./acts";
import { hurry } from "./answering";
import { focusComposer } from "./editing";
import { isHelpOpen, isSettingsOpen, whose } from "./sheets";
import { current, startNew } from "./state";
import { pathTo } from "./tree";
import { words } from "./words";

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(?:INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

const isWindowOpen = (): boolean => document.querySelector("dialog[open], .popover") !== null;

async function copyLast(): Promise<void> {
  const conversation = current.value;
  if (!conversation) return;
  const { value } = conversation.document;
  const last = pathTo(value, value.leaf).findLast((turn) => turn.role === "assistant");
  if (!last) return;
  await copyText(last.content);
  toast(words.value.copied, "good");
}

function goSearch(): void {
  isRailHidden.value = false;
  if (matchMedia("(max-width: 820px)").matches) isRailOpen.value = true;
  requestAnimationFrame(() => {
    const fields = [...document.querySelectorAll<HTMLElement>("#chat-search")];
    fields.at(-1)?.focus();
  });
}

/** Takes a key; true where it meant something. */
export function onKey(event: KeyboardEvent): boolean {
  const conversation = current.value;
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (isWindowOpen() || event.isComposing) return false;
  if (key === "escape" && conversation?.isAnswering) stopAll(conversation);
  else if (command && key === "." && conversation) for (const live of conversation.live.value.values()) void hurry(live);
  else if (command && event.shiftKey && key === "o") startNew();
  else if (command && event.shiftKey && key === "c") void copyLast();
  else if (command && !event.shiftKey && key === "k") goSearch();
  else if (command && key === ",") {
    whose.value = "own";
    isSettingsOpen.value = true;
  } else if (!command && !event.altKey && !isTyping(event.target) && key === "/") focusComposer.value += 1;
  else if (!command && !event.altKey && !isTyping(event.target) && key === "?") isHelpOpen.value = true;
  else return false;
  return true;
}
