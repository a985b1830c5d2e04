// What a reader can do in a conversation.

import type { Message } from "../api/chat";
import { go } from "../app/route";
import { answer, type Asked } from "./answering";
import type { Conversation } from "./conversation";
import { continued, messages } from "./prompt";
import type { Settings } from "./settings";
import { contexts, hold, keepDraft, warm } from "./state";
import { type Document, leafUnder, newTurn, pathTo, type TextFile, type Turn, withTurns } from "./tree";

/** Who answers: the conversation's model as it is set, and the one beside it. */
function answerers({ model, settings, rival }: Document): { model: string; settings: Settings }[] {
  const all = [{ model, settings }];
  if (rival) all.push(rival);
  return all.filter((one): one is { model: string; settings: Settings } => one.model !== null);
}

function run(conversation: Conversation, asked: Asked): void {
  hold(conversation);
  void answer(conversation, asked).then(() => {
    const turn = conversation.document.value.nodes[asked.turn.id];
    if (turn?.usage) warm.add(asked.model);
  });
}

/** Lets the model, or both, answer a question that is in the document. */
function ask(conversation: Conversation, document: Document, question: Turn, who = answerers(document)): void {
  const turns = who.map(({ model, settings }) => newTurn("assistant", question.id, { model, settings }));
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

/** Asks something new at the end. */
export function send(conversation: Conversation, content: string, files: TextFile[]): void {
  const document = conversation.document.value;
  keepDraft(conversation, "");
  const question = newTurn("user", document.leaf, { content, files });
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
  const who = model === undefined ? answerers(document) : [{ model, settings: document.settings }];
  ask(conversation, document, question, who);
}

/** Answers a question that has no answer. */
export function answerIt(conversation: Conversation, question: Turn): void {
  ask(conversation, conversation.document.value, question);
}

/** Goes on with an answer that broke off, where it broke off. */
export function goOn(conversation: Conversation, turn: Turn, how: "as it was" | "without more thought" = "as it was"): void {
  const document = conversation.document.value;
  const path = pathTo(document, turn.parent);
  const settings: Settings = { ...(turn.settings ?? document.settings), verify: null };
  if (how === "without more thought") settings.thinking = { mode: "off", budget: null };
  const model = turn.model ?? document.model;
  if (model === null) return;
  const nothing = turn.content === "" && (turn.reasoning ?? "") === "";
  const prompt: Message[] = nothing ? messages(document.system, path) : continued(document.system, path, turn);
  const open = { ...turn, finish: null };
  conversation.put(open);
  run(conversation, { turn: open, messages: prompt, model, settings });
}

/** Shows another version of a turn, with what followed it. */
export function choose(conversation: Conversation, turn: Turn): void {
  const document = conversation.document.value;
  conversation.change({ ...document, leaf: leafUnder(document, turn.id) });
}

/** Goes on with one of two answers that are compared. */
export const prefer = choose;

export function stopAll(conversation: Conversation): void {
  for (const live of conversation.live.value.values()) live.stop();
}

/** Notes how long a conversation with a model may be. */
export function noteContext(model: string, tokens: number): void {
  if (contexts.value.get(model) !== tokens) contexts.value = new Map(contexts.value).set(model, tokens);
}
