// One answer: asks for it, takes what comes, and writes it into its turn whatever way it ends.

import { signal } from "@preact/signals";
import { type Closed, type Cost, type Message, stopThinking, stream, type Usage, type Verified } from "../api/chat";
import { ApiError, isAborted, NoConnection } from "../api/http";
import type { Conversation, Live } from "./conversation";
import { fields, type Settings } from "./settings";
import type { Finish, Turn } from "./tree";

/** Pieces are drawn together about as often as a screen is; more seldom where drawing takes long, so
 * that the page keeps most of its time for the reader. */
const DRAW_MILLISECONDS = 40;
const SELDOM_MILLISECONDS = 1500;
const PAUSE_PER_DRAW = 4;
/** What has come is kept so often, for the case that the page is closed. */
const KEEP_MILLISECONDS = 4000;

export type Asked = {
  /** The turn to write into; what it holds is gone on with. */
  turn: Turn;
  messages: Message[];
  model: string;
  settings: Settings;
};

function begin(turn: Turn, stop: () => void): Live {
  return {
    phase: signal("waiting"),
    content: signal(turn.content),
    reasoning: signal(turn.reasoning ?? ""),
    tokens: signal(0),
    thoughtTokens: signal(0),
    startedAt: performance.now(),
    thoughtAt: null,
    answerAt: null,
    id: null,
    isHurried: signal(false),
    stop,
  };
}

/** Pieces that came and are not drawn yet. */
class Gathered {
  content = "";
  reasoning = "";
  tokens = 0;
  thoughtTokens = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pause = DRAW_MILLISECONDS;

  constructor(private readonly live: Live) {}

  take(kind: "thought" | "answer", text: string): void {
    this.tokens += 1;
    if (kind === "thought") {
      this.reasoning += text;
      this.thoughtTokens += 1;
    } else this.content += text;
    // Not by animation frames: a page in the background has none, and its answers go on.
    this.timer ??= setTimeout(() => this.drawTimed(), this.pause);
  }

  private drawTimed(): void {
    const began = performance.now();
    this.draw();
    // Behind the drawing, and behind a frame's layout where there is one.
    setTimeout(() => {
      const took = performance.now() - began;
      this.pause = Math.min(SELDOM_MILLISECONDS, Math.max(DRAW_MILLISECONDS, took * PAUSE_PER_DRAW));
    });
  }

  draw(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const { live } = this;
    live.content.value += this.content;
    live.reasoning.value += this.reasoning;
    live.tokens.value += this.tokens;
    live.thoughtTokens.value += this.thoughtTokens;
    this.content = this.reasoning = "";
    this.tokens = this.thoughtTokens = 0;
  }
}

type Ending = { finish: Finish; closed: Closed | null; usage: Usage | null; verified: Verified | null; fault: unknown };

/** Answers; ends when the answer does. What goes wrong stands with the turn. */
export async function answer(conversation: Conversation, { turn, messages, model, settings }: Asked): Promise<void> {
  const abort = new AbortController();
  const live = begin(turn, () => abort.abort());
  conversation.fail(turn.id, null);
  conversation.setLive(turn.id, live);
  const gathered = new Gathered(live);
  const keeping = setInterval(() => void conversation.save(), KEEP_MILLISECONDS);
  const ending: Ending = { finish: "stop", closed: null, usage: null, verified: null, fault: null };
  try {
    const body = { model, messages, ...fields(settings) };
    for await (const piece of stream(body, abort.signal)) {
      if (piece.kind === "begun") live.id = piece.id;
      else if (piece.kind === "thought" || piece.kind === "answer") {
        note(live, piece.kind);
        gathered.take(piece.kind, piece.text);
      } else if (piece.kind === "ended") {
        ending.finish = piece.finish as Finish;
        ending.closed = piece.closed;
      } else if (piece.kind === "used") {
        ending.usage = piece.usage;
        ending.verified = piece.verified;
      }
    }
  } catch (error) {
    ending.fault = isAborted(error) ? null : error;
    ending.finish = isAborted(error) ? "stopped" : error instanceof NoConnection ? "lost" : "failed";
  } finally {
    clearInterval(keeping);
    gathered.draw();
    finish(conversation, turn, live, ending);
  }
}

/** The times at which the thought and the answer began. */
function note(live: Live, kind: "thought" | "answer"): void {
  const now = performance.now();
  if (kind === "thought") {
    live.thoughtAt ??= now;
    live.phase.value = "thinking";
  } else {
    live.answerAt ??= now;
    live.phase.value = "answering";
  }
}

function finish(conversation: Conversation, asked: Turn, live: Live, ending: Ending): void {
  const { startedAt, thoughtAt, answerAt } = live;
  const now = performance.now();
  const seconds = (from: number, to: number): number => Math.round(to - from) / 1000;
  const firstAt = thoughtAt ?? answerAt;
  // The document may have moved on while the answer came; the turn is as it stands there now.
  const turn = conversation.document.value.nodes[asked.id] ?? asked;
  const reasoning = live.reasoning.value;
  // What came before a break counts too.
  const before = asked.seconds;
  // Of several answers that are verified, what is shown comes at once: its time is nobody's.
  const isAtOnce = ending.verified !== null;
  const thought = thoughtAt === null || isAtOnce ? null : seconds(thoughtAt, answerAt ?? now);
  const written: Turn = {
    ...turn,
    content: live.content.value,
    reasoning: reasoning === "" ? null : reasoning,
    finish: ending.finish,
    closed: ending.closed ?? turn.closed,
    usage: ending.usage ? together(asked.usage, ending.usage) : partial(asked, live),
    verify: ending.verified,
    seconds: {
      first: before?.first ?? (firstAt === null || isAtOnce ? null : seconds(startedAt, firstAt)),
      thought: thought === null && before?.thought == null ? null : (before?.thought ?? 0) + (thought ?? 0),
      whole: (before?.whole ?? 0) + seconds(startedAt, now),
    },
  };
  conversation.setLive(turn.id, null);
  if (conversation.document.value.nodes[turn.id]) conversation.put(written);
  conversation.fail(turn.id, ending.fault);
  void conversation.save();
}

/** What an answer used that was gone on with: its tokens in all; its price as far as it was told. */
function together(before: Usage | null, now: Usage): Usage {
  if (!before) return now;
  const add = (one: Cost | null, other: Cost | null): Cost | null =>
    one && other
      ? {
          ...other,
          flops: one.flops + other.flops,
          core_seconds: one.core_seconds + other.core_seconds,
          joules: one.joules + other.joules,
          money: one.money + other.money,
        }
      : (other ?? one);
  return {
    prompt_tokens: before.prompt_tokens || now.prompt_tokens,
    completion_tokens: before.completion_tokens + now.completion_tokens,
    reasoning_tokens: before.reasoning_tokens + now.reasoning_tokens,
    cached_tokens: before.cached_tokens || now.cached_tokens,
    cost: add(before.cost, now.cost),
  };
}

/** The server tells what was used at the end only; of an answer that was cut the pieces were counted. */
function partial(asked: Turn, live: Live): Usage | null {
  if (live.tokens.value === 0) return asked.usage;
  return {
    prompt_tokens: 0,
    completion_tokens: (asked.usage?.completion_tokens ?? 0) + live.tokens.value,
    reasoning_tokens: (asked.usage?.reasoning_tokens ?? 0) + live.thoughtTokens.value,
    cached_tokens: 0,
    cost: null,
  };
}

/** Asks for the answer now. An answer whose thought ended a moment ago needs no asking. */
export async function hurry(live: Live): Promise<void> {
  if (live.id === null || live.isHurried.value) return;
  live.isHurried.value = true;
  try {
    await stopThinking(live.id);
  } catch (error) {
    // Not known any more: it is answering. Else it can be asked once more.
    live.isHurried.value = error instanceof ApiError && error.status === 404;
  }
}
