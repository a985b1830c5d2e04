// What a reader can do in a conversation.

import type { Message } from "../api/chat";
import { go } from "../app/route";
import { answer, type Asked } from "./answering";
import type { Conversation } from "./conversation";
import { EMPTY, write } from "./drafts";
import { toMend } from "./explain";
import { continued, messages } from "./prompt";
import { fitting, warm } from "./served";
import type { Settings } from "./settings";
import { type Document, isFirst, leafUnder, newTurn, pathTo, type TextFile, type Turn, withTurns } from "./tree";

/** `hasOwnModel` where the model was chosen for one answer alone. */
type Answerer = { model: string; settings: Settings; hasOwnModel: boolean };

/** Who answers: the conversation's model as it is set, and the one beside it. */
function answerers({ model, settings, rival }: Document): Answerer[] {
  const all = [{ model, settings }, ...(rival ? [rival] : [])];
  return all.flatMap(({ model, settings }) => (model === null ? [] : { model, settings: fitting(model, settings), hasOwnModel: false }));
}

/** Who is asked now for an answer that was asked for before: what was to be mended is taken as it is set now. */
function answererNow(conversation: Conversation, turn: Turn): Answerer | undefined {
  const document = conversation.document.value;
  const { model, hasOwnModel } = turn;
  if (hasOwnModel && model !== null && mendOf(conversation, turn) !== "model")
    return { model, settings: fitting(model, document.settings), hasOwnModel };
  const [own, rival] = answerers(document);
  return isFirst(document, turn) ? own : (rival ?? own);
}

const mendOf = (conversation: Conversation, turn: Turn) => toMend(conversation.faults.value.get(turn.id));

function run(conversation: Conversation, asked: Asked): void {
  void answer(conversation, asked).then(() => {
    const turn = conversation.document.value.nodes[asked.turn.id];
    if (turn?.usage) warm.add(asked.model);
  });
}

/** Lets the model, or both, answer a question that is in the document. */
function ask(conversation: Conversation, document: Document, question: Turn, who = answerers(document)): void {
  const turns = who.map((one) => newTurn("assistant", question.id, one));
  const [first, second] = turns;
  if (!first) return;
  if (second) {
    first.beside = second.id;
    second.beside = first.id;
  }
  const path = pathTo(document, question.id);
  conversation.change({ ...withTurns(document, ...turns), leaf: first.id });
  const prompt = messages(document.system, path);
  turns.forEach((turn, at) => {
    const one = who[at];
    if (one) run(conversation, { turn, messages: prompt, ...one });
  });
}

/** Asks what stands in the composer, at the end. */
export function send(conversation: Conversation): void {
  const document = conversation.document.value;
  const { text, files } = conversation.draft.value;
  write(conversation, EMPTY);
  const question = newTurn("user", document.leaf, { content: text.trim(), files: [...files] });
  ask(conversation, withTurns(document, question), question);
  go("chat", conversation.id, "replace");
}

/** Asks otherwise in a question's place: a branch of its own. */
export function edit(conversation: Conversation, turn: Turn, content: string, files: TextFile[]): void {
  const document = conversation.document.value;
  const question = newTurn("user", turn.parent, { content, files });
  ask(conversation, withTurns(document, question), question);
}

/** Lets the question before an answer be answered once more, perhaps by another model. */
export function again(conversation: Conversation, turn: Turn, model?: string): void {
  const document = conversation.document.value;
  const question = turn.parent === null ? undefined : document.nodes[turn.parent];
  if (!question) return;
  const who = model === undefined ? answerers(document) : [{ model, settings: fitting(model, document.settings), hasOwnModel: true }];
  ask(conversation, document, question, who);
}

/** Answers a question that has no answer. */
export function answerIt(conversation: Conversation, question: Turn): void {
  ask(conversation, conversation.document.value, question);
}

/**
 * Goes on with an answer that broke off, where it broke off: by the model and the settings it began with, unless one of
 * these is what broke it.
 */
export function goOn(conversation: Conversation, turn: Turn, how: "as it was" | "without more thought" = "as it was"): void {
  const document = conversation.document.value;
  const mended = mendOf(conversation, turn) === null ? undefined : answererNow(conversation, turn);
  const open = { ...turn, ...mended };
  const model = open.model ?? document.model;
  if (model === null) return;
  const settings: Settings = { ...(open.settings ?? document.settings), verify: null };
  if (how === "without more thought") settings.thinking = { mode: "off", budget: null };
  resume(conversation, open, { model, settings }, continued(document.system, pathTo(document, turn.parent), turn));
}

/**
 * Asks anew for an answer of which nothing came, as the conversation is set now: that may be what was mended. A model
 * that was chosen for this answer alone is asked again.
 */
export function retry(conversation: Conversation, turn: Turn): void {
  const document = conversation.document.value;
  const who = answererNow(conversation, turn);
  if (who) resume(conversation, { ...turn, ...who, seconds: null, usage: null }, who, messages(document.system, pathTo(document, turn.parent)));
}

function resume(conversation: Conversation, turn: Turn, who: Pick<Asked, "model" | "settings">, prompt: Message[]): void {
  const open = { ...turn, finish: null };
  conversation.put(open);
  run(conversation, { turn: open, messages: prompt, ...who });
}

/** Shows another version of a turn, or the other one of two that are compared, with what followed it. */
export function choose(conversation: Conversation, turn: Turn): void {
  const document = conversation.document.value;
  conversation.change({ ...document, leaf: leafUnder(document, turn.id) });
}

export function stopAll(conversation: Conversation): void {
  for (const live of conversation.live.value.values()) live.stop();
}
