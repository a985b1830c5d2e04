// Fetching and checking under way: watched from here on, also when another view is in front.

import { signal } from "@preact/signals";
import { ApiError } from "../api/http";
import { cancelJob, followJob, type Job, listJobs, type Seen } from "../api/models";
import { say } from "../ui/index";
import { refreshModels } from "./catalogue";
import { words } from "./words";

/** A job as it is watched, and how many bytes a second it does where that is known. */
export type Watched = Job & { rate: number | null };

/** Those that wait or run, and those that failed until they are dismissed. */
export const jobs = signal<readonly Watched[]>([]);

/** Milliseconds until a lost connection is tried again. */
const AGAIN = 3000;
/** Milliseconds over which a rate is taken. */
const SPAN = 900;

const followed = new Set<string>();
const isOver = (state: Seen["state"]): boolean => state === "done" || state === "failed" || state === "cancelled";

/** Whether a model is being fetched or checked. */
export const isUnderWay = (name: string): boolean => jobs.value.some((job) => job.name === name && !isOver(job.state));

const change = (id: string, part: Partial<Watched>): void => {
  jobs.value = jobs.value.map((job) => (job.id === id ? { ...job, ...part } : job));
};

const dismiss = (id: string): void => {
  jobs.value = jobs.value.filter((job) => job.id !== id);
};

/** Finds what is under way and watches it. */
export async function findJobs(): Promise<void> {
  const known = new Map(jobs.value.map((job) => [job.id, job]));
  const found = (await listJobs()).filter((job) => !isOver(job.state));
  // Those that end just now are told of by who watches them.
  const others = jobs.value.filter((job) => !found.some(({ id }) => id === job.id));
  jobs.value = [...found.map((job) => ({ ...job, rate: known.get(job.id)?.rate ?? null })), ...others];
  for (const job of found) void follow(job);
}

/** Watches a job that was just begun; it may be over by now. */
export function watchJob(id: string, kind: Job["kind"], name: string): void {
  if (jobs.value.some((job) => job.id === id)) return;
  const job: Job = {
    id, kind, name, started_at: Date.now() / 1000, state: "waiting", done_bytes: 0, total_bytes: null, file: null, message: null,
  };
  jobs.value = [{ ...job, rate: null }, ...jobs.value];
  void follow(job);
}

/** Watches it to its end, however often the connection is lost on the way. */
async function follow(job: Job): Promise<void> {
  if (followed.has(job.id)) return;
  followed.add(job.id);
  while (!(await watch(job))) await new Promise((resolve) => setTimeout(resolve, AGAIN));
  followed.delete(job.id);
}

/** Whether there is no more to hear: it ended, or the server has forgotten it or does not tell us. */
async function watch(job: Job): Promise<boolean> {
  let before: { bytes: number; at: number } | null = null;
  let rate: number | null = null;
  try {
    for await (const seen of followJob(job.id)) {
      const at = performance.now();
      if (seen.state === "running" && (before === null || at - before.at > SPAN)) {
        if (before !== null) rate = evened(rate, (seen.done_bytes - before.bytes) / ((at - before.at) / 1000));
        before = { bytes: seen.done_bytes, at };
      }
      change(job.id, { ...seen, rate });
      if (isOver(seen.state)) {
        end(job, seen);
        return true;
      }
    }
  } catch (error) {
    if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
      dismiss(job.id);
      return true;
    }
  }
  return false;
}

/** Evened out, or the time that is left would jump. */
const evened = (known: number | null, rate: number): number => Math.max(0, known === null ? rate : 0.7 * known + 0.3 * rate);

function end(job: Job, seen: Seen): void {
  const { pulled, verified } = words.value;
  if (seen.state === "done") say(job.kind === "pull" ? pulled(seen.message ?? job.name) : verified(job.name), "good");
  if (seen.state !== "failed") dismiss(job.id);
  if (job.kind === "pull" && seen.state === "done") void refreshModels();
}

/** Calls a job off, or takes a failed one out of sight. */
export async function callOff(job: Job): Promise<void> {
  if (isOver(job.state)) dismiss(job.id);
  else await cancelJob(job.id);
}
