// Runs: which there are, what they cost, and their files as they grow.

import { ApiError, events, isAborted, NoConnection, request, send } from "./http";

export type State = "running" | "done" | "failed" | "stopped" | "waiting";

/** What a stage, a run or everything cost. */
export type Spent = {
  seconds: number;
  core_seconds: number;
  peak_memory_bytes: number | null;
  joules: number;
  /** How the energy came about. */
  energy: "measured" | "estimated" | "mixed" | null;
  tokens_trained: number;
  tokens_generated: number;
  flops_forward: number;
  flops_backward: number;
  flops_rollout: number;
  /** By currency. */
  money: Record<string, number>;
};

export type Stage = {
  name: string;
  kind: string;
  state: State;
  steps: number;
  /** Steps there are to be, at most. */
  of: number;
  from: string | null;
  teacher: string | null;
  control: boolean;
  seconds: number;
  tokens_trained: number;
  tokens_generated: number;
};

export type Head = {
  id: string;
  name: string;
  /** For those who manage. */
  folder: string | null;
  recipe: string;
  about: string;
  task: string;
  seed: number;
  budget_minutes: number;
  state: State;
  /** Asked to stop, and has not yet. */
  stopping: boolean;
  started_at: number | null;
  ended_at: number | null;
  seconds: number;
  stages: Stage[];
  latest: string | null;
  /** Null for runs of other homes. */
  bill: Spent | null;
  tokens_trained: number;
  tokens_generated: number;
  accuracies: number[];
  accuracy: number | null;
  /** The best of the checkpoints that were examined. */
  best: { checkpoint: string; pass_at_1: number } | null;
  problem: string | null;
};

export type List = {
  data: Head[];
  total: Spent;
  /** What is in the total and has no folder to look at. */
  others: { recipe: string; count: number; spent: Spent }[];
};

export type StageBill = Spent & {
  stage: string;
  flops_per_second: number;
  share_of_peak: number | null;
  price_per_core_hour: number;
  currency: string;
};

export type Estimate = { value: number; low: number; high: number };

export type Score = {
  problems: number;
  pass_at_1: Estimate;
  greedy: Estimate;
  pass_at_8: Estimate;
  majority_at_8: Estimate;
  mean_thinking_tokens: number;
  mean_tokens: number;
  think_rate: number;
  self_checks: number;
  in_form: number;
};

/** What an evaluation found of one checkpoint. What is in it comes from a file, and is looked at with care. */
export type Examined = { checkpoint: string; score: unknown; curve: unknown };

export type Whole = Head & {
  recipe_toml: string;
  bills: StageBill[];
  scores: { stage: string; control: boolean; checkpoints: Examined[] }[];
  self_check_words: string[];
  /** The end of what a resumed run said. */
  log: string | null;
};

export type FileName = "journal" | "timings" | "samples";
export type Offsets = Record<FileName, number>;

/** How a run stands, told when it changes. */
export type Standing = { state: State; stopping: boolean; stages: Stage[] };

/** What is heard of a run. */
export type Heard =
  | { file: FileName; offset: number; lines: unknown[] }
  | { file: FileName; reset: true }
  | { file: FileName; damaged: true }
  | Standing;

const PATH = "/web/runs";

export const runs = (signal?: AbortSignal): Promise<List> => request<List>("GET", PATH, { signal });

export const run = (id: string, signal?: AbortSignal): Promise<Whole> =>
  request<Whole>("GET", `${PATH}/${encodeURIComponent(id)}`, { signal });

/** Asks a run to write a checkpoint and end. */
export const stopRun = async (id: string): Promise<void> => {
  await send("POST", `${PATH}/${encodeURIComponent(id)}/stop`, { body: {} });
};

/** Goes on with a run that was stopped. */
export const resumeRun = async (id: string): Promise<void> => {
  await send("POST", `${PATH}/${encodeURIComponent(id)}/resume`, { body: {} });
};

/** Between two tries to reach the server again. */
const PAUSES = [500, 1000, 2000, 5000, 10_000];

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });

/**
 * Follows the files of a run from `offsets` on, which it keeps up to date, and goes on by itself where
 * the connection is lost. `connected` hears of the line.
 */
export async function follow(
  id: string,
  offsets: Offsets,
  { hear, connected, signal }: {
    hear: (heard: Heard) => void;
    connected: (is: boolean) => void;
    signal: AbortSignal;
  },
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    try {
      const query = new URLSearchParams(Object.entries(offsets).map(([file, at]) => [file, String(at)]));
      const answer = await send("GET", `${PATH}/${encodeURIComponent(id)}/events?${query}`, { signal });
      connected(true);
      for await (const event of events(answer)) {
        failures = 0;
        const heard = JSON.parse(event.data) as Heard;
        if ("file" in heard) offsets[heard.file] = "offset" in heard ? heard.offset : 0;
        hear(heard);
      }
    } catch (error) {
      if (isAborted(error)) return;
      // What a server refuses it refuses again; what it is too busy for may be possible later.
      const isForGood = error instanceof ApiError && error.status < 500 && error.status !== 429;
      if (isForGood || !(error instanceof ApiError || error instanceof NoConnection)) throw error;
      connected(false);
    }
    await pause(PAUSES[Math.min(failures++, PAUSES.length - 1)] ?? 10_000, signal);
  }
}
