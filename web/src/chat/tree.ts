// A conversation: a tree of turns, in which editing and asking again branch. Nothing here is changed
// in place; every change gives a new document that shares what stayed.

import type { Closed, Usage, Verified } from "../api/chat";
import type { Settings } from "./settings";

/** A text file that was put into a prompt. */
export type TextFile = { name: string; text: string; tokens: number | null };

/** Seconds until the first piece, of the thought, of the whole. */
export type Seconds = { first: number | null; thought: number | null; whole: number };

/** How an answer ended: the model's own ways, or ours: stopped by the reader, lost, refused. */
export type Finish = "stop" | "length" | "tool_calls" | "stopped" | "lost" | "failed";

export type Turn = {
  id: string;
  parent: string | null;
  role: "user" | "assistant";
  content: string;
  reasoning: string | null;
  files: TextFile[];
  usage: Usage | null;
  seconds: Seconds | null;
  /** Null while it is being written. */
  finish: Finish | null;
  /** In which part it ended, and why its thought was closed. */
  closed: Closed | null;
  model: string | null;
  settings: Settings | null;
  /** Whether its model was chosen for this answer alone, in place of the conversation's. */
  hasOwnModel: boolean;
  verify: Verified | null;
  /** The other answer of a comparison; each names the other. */
  beside: string | null;
  at: number;
};

export type Document = {
  version: 1;
  model: string | null;
  settings: Settings;
  system: string;
  nodes: Readonly<Record<string, Turn>>;
  leaf: string | null;
  /** Who else answers each question, beside. */
  rival: Rival | null;
};

/** The second of two that are compared: another model, or the same one asked otherwise. */
export type Rival = { model: string | null; settings: Settings };

export const emptyDocument = (model: string | null, settings: Settings, system = ""): Document => ({
  version: 1,
  model,
  settings,
  system,
  nodes: {},
  leaf: null,
  rival: null,
});

/** A turn with nothing in it yet. */
export const newTurn = (role: Turn["role"], parent: string | null, more: Partial<Turn> = {}): Turn => ({
  id: crypto.randomUUID(),
  parent,
  role,
  content: "",
  reasoning: null,
  files: [],
  usage: null,
  seconds: null,
  finish: null,
  closed: null,
  model: null,
  settings: null,
  hasOwnModel: false,
  verify: null,
  beside: null,
  at: Math.round(Date.now() / 1000),
  ...more,
});

/** With these turns put in (or replaced). */
export function withTurns(document: Document, ...turns: Turn[]): Document {
  const nodes = { ...document.nodes };
  for (const turn of turns) nodes[turn.id] = turn;
  return { ...document, nodes };
}

/** From the first turn to the given one. */
export function pathTo(document: Document, leaf: string | null): Turn[] {
  const path: Turn[] = [];
  const seen = new Set<string>();
  for (let id = leaf; id !== null && !seen.has(id); ) {
    const turn = document.nodes[id];
    if (!turn) break;
    // A document from a file may hold a circle.
    seen.add(id);
    path.push(turn);
    id = turn.parent;
  }
  return path.reverse();
}

/** Turns by their parent, oldest first. Made once a document: looking through all for each turn is quadratic. */
export function children(document: Document): Map<string | null, Turn[]> {
  const known = cached.get(document.nodes);
  if (known) return known;
  const all = new Map<string | null, Turn[]>();
  for (const turn of Object.values(document.nodes)) {
    const list = all.get(turn.parent);
    if (list) list.push(turn);
    else all.set(turn.parent, [turn]);
  }
  cached.set(document.nodes, all);
  return all;
}
const cached = new WeakMap<Document["nodes"], Map<string | null, Turn[]>>();

/** The turns that could stand in this one's place. Of two that are compared only one counts. */
export function versions(document: Document, turn: Turn): Turn[] {
  const all = children(document).get(turn.parent) ?? [];
  return all.filter((other) => {
    if (other.beside === null || other.id === turn.id) return true;
    const pair = document.nodes[other.beside];
    if (!pair || pair.parent !== turn.parent) return true;
    return pair.id !== turn.id && all.indexOf(other) < all.indexOf(pair);
  });
}

/** Whether an answer was asked for first of its pair; one that is compared with none is. */
export function isFirst({ nodes }: Document, { id, beside }: Turn): boolean {
  if (beside === null || !nodes[beside]) return true;
  const ids = Object.keys(nodes);
  return ids.indexOf(id) < ids.indexOf(beside);
}

/** The last turn under this one, along the newest. */
export function leafUnder(document: Document, id: string): string {
  const all = children(document);
  const seen = new Set<string>();
  let leaf = id;
  while (!seen.has(leaf)) {
    seen.add(leaf);
    const next = all.get(leaf)?.at(-1);
    if (!next) break;
    // Of a comparison the one that was gone on with, else the first.
    const pair = next.beside === null ? undefined : document.nodes[next.beside];
    leaf = pair && pair.parent === leaf && !all.has(next.id) ? pair.id : next.id;
  }
  return leaf;
}

/** Two states of one conversation as one: the turns of both, of each the one that got further. */
export function merged(ours: Document, theirs: Document): Document {
  const nodes: Record<string, Turn> = { ...theirs.nodes };
  const length = (turn: Turn): number => turn.content.length + (turn.reasoning?.length ?? 0);
  for (const turn of Object.values(ours.nodes)) {
    const other = nodes[turn.id];
    if (!other || length(turn) >= length(other)) nodes[turn.id] = turn;
  }
  return { ...ours, nodes };
}

/** A title out of the first question. */
export function titleOf(document: Document): string {
  const first = pathTo(document, document.leaf).find((turn) => turn.role === "user");
  const text = (first?.content ?? "").trim().replace(/\s+/g, " ") || (first?.files[0]?.name ?? "");
  if (text.length <= 60) return text;
  const cut = text.slice(0, 60);
  // Words of a language without spaces are cut anywhere.
  return `${cut.replace(/\s\S{0,18}$/, "")}…`;
}
