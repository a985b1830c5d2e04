// A document out of anything: from the server, from the browser's own store, from a file that somebody
// else made. What is not as it should be is left out; what is no conversation at all is refused.

import type { Cost, Usage, Verified } from "../api/chat";
import { readSettings } from "./settings";
import type { Document, Finish, Rival, Seconds, TextFile, Turn } from "./tree";

type Fields = Record<string, unknown>;

const fieldsOf = (value: unknown): Fields | null =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : null;
const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
const number = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

const FINISHES: readonly string[] = ["stop", "length", "tool_calls", "stopped", "lost", "failed"];

/** Turns of one conversation. More come from no reader. */
const MOST_TURNS = 20_000;

export function readDocument(value: unknown): Document | null {
  const from = fieldsOf(value);
  const nodes = fieldsOf(from?.["nodes"]);
  if (!from || from["version"] !== 1 || !nodes) return null;
  const turns: Record<string, Turn> = {};
  for (const [id, node] of Object.entries(nodes).slice(0, MOST_TURNS)) {
    // An object's own names, such as __proto__, are none of turns.
    const turn = id in {} ? null : readTurn(id, node);
    if (turn) turns[id] = turn;
  }
  for (const turn of Object.values(turns)) {
    if (turn.parent !== null && !Object.hasOwn(turns, turn.parent)) turn.parent = null;
    if (turn.beside !== null && turns[turn.beside]?.beside !== turn.id) turn.beside = null;
  }
  const leaf = text(from["leaf"]);
  return {
    version: 1,
    model: text(from["model"]),
    settings: readSettings(from["settings"]),
    system: text(from["system"]) ?? "",
    nodes: turns,
    leaf: leaf !== null && Object.hasOwn(turns, leaf) ? leaf : (Object.keys(turns).at(-1) ?? null),
    rival: readRival(from["rival"]),
  };
}

function readRival(value: unknown): Rival | null {
  const from = fieldsOf(value);
  return from && { model: text(from["model"]), settings: readSettings(from["settings"]) };
}

function readTurn(id: string, value: unknown): Turn | null {
  const from = fieldsOf(value);
  const role = from?.["role"];
  if (!from || (role !== "user" && role !== "assistant")) return null;
  const finish = text(from["finish"]);
  const closed = text(from["closed"]);
  return {
    id,
    parent: text(from["parent"]),
    role,
    content: text(from["content"]) ?? "",
    reasoning: text(from["reasoning"]),
    files: listOf(from["files"]).flatMap((file) => readFile(file) ?? []),
    usage: readUsage(from["usage"]),
    seconds: readSeconds(from["seconds"]),
    finish: finish !== null && FINISHES.includes(finish) ? (finish as Finish) : null,
    closed: closed === "budget" || closed === "asked" || closed === "circles" ? closed : null,
    model: text(from["model"]),
    settings: fieldsOf(from["settings"]) ? readSettings(from["settings"]) : null,
    hasOwnModel: from["hasOwnModel"] === true,
    verify: readVerified(from["verify"]),
    beside: text(from["beside"]),
    at: number(from["at"]) ?? 0,
  };
}

function readFile(value: unknown): TextFile | null {
  const from = fieldsOf(value);
  const name = text(from?.["name"]);
  const words = text(from?.["text"]);
  return name === null || words === null ? null : { name, text: words, tokens: number(from?.["tokens"]) };
}

function readSeconds(value: unknown): Seconds | null {
  const from = fieldsOf(value);
  const whole = number(from?.["whole"]);
  if (!from || whole === null) return null;
  return { first: number(from["first"]), thought: number(from["thought"]), whole };
}

function readUsage(value: unknown): Usage | null {
  const from = fieldsOf(value);
  if (!from) return null;
  const of = (name: string): number => number(from[name]) ?? 0;
  return {
    prompt_tokens: of("prompt_tokens"),
    completion_tokens: of("completion_tokens"),
    reasoning_tokens: of("reasoning_tokens"),
    cached_tokens: of("cached_tokens"),
    cost: readCost(from["cost"]),
  };
}

function readCost(value: unknown): Cost | null {
  const from = fieldsOf(value);
  if (!from) return null;
  const of = (name: string): number => number(from[name]) ?? 0;
  const are = from["joules_are"];
  return {
    flops: of("flops"),
    core_seconds: of("core_seconds"),
    joules: of("joules"),
    joules_are: are === "measured" || are === "estimated" ? are : "",
    money: of("money"),
    currency: text(from["currency"]) ?? "",
  };
}

function readVerified(value: unknown): Verified | null {
  const from = fieldsOf(value);
  const checker = text(from?.["checker"]);
  if (!from || checker === null) return null;
  return {
    checker,
    samples: number(from["samples"]) ?? 0,
    chosen: number(from["chosen"]) ?? 0,
    is_verified: from["is_verified"] === true,
    agreement: number(from["agreement"]) ?? 0,
    verdicts: listOf(from["verdicts"]).flatMap((verdict) => {
      const one = fieldsOf(verdict);
      if (!one) return [];
      const { is_finished, agrees } = one;
      return { result: text(one["result"]), is_finished: is_finished === true, agrees: agrees === true };
    }),
  };
}
