// Files that are put into a draft: read, refused by name, counted.

import { say as toast } from "../ui/index";
import type { Conversation } from "./conversation";
import { restored, write } from "./drafts";
import { countTokens, readFiles } from "./files";
import type { TextFile } from "./tree";
import { words } from "./words";

/**
 * Puts files into what is being written; gives those that were taken. Nothing more is written once `isOver` says that
 * nobody, or somebody else, writes there.
 */
export async function attach(conversation: Conversation, given: Iterable<File>, isOver: () => boolean): Promise<readonly TextFile[]> {
  // Those that were there before count towards what is too much.
  await restored(conversation);
  if (isOver()) return [];
  const { draft } = conversation;
  const { taken, refused } = await readFiles(given, draft.value.files);
  if (isOver()) return [];
  for (const { name, why } of refused) toast(words.value.file_refused[why](name), "bad");
  if (taken.length > 0) write(conversation, { files: [...draft.value.files, ...taken] });
  return taken;
}

/** Notes how many tokens files of a draft are for the conversation's model. */
export async function count(conversation: Conversation, files: readonly TextFile[], isOver: () => boolean): Promise<void> {
  const { draft } = conversation;
  const { model } = conversation.document.value;
  if (model === null) return;
  for (const file of files) {
    const tokens = await countTokens(model, file.text);
    if (isOver()) return;
    write(conversation, { files: draft.value.files.map((one) => (one === file ? { ...one, tokens } : one)) });
  }
}
