// Fetching and checking under way: watched from here on, also when another view is in front.

import { signal } from "@preact/signals";
import { isAborted } from "../api/http";
import { cancelJob, followJob, type Job, listJobs, type Seen } from "../api/models";
import { say } from "../ui/index";
import { refreshModels } from "./catalogue";
import { words } from "./words";

/** Those that wait or run, and those that failed until they are dismissed. */
export const jobs = signal<readonly Job[]>([]);

/** Bytes a second, by job, where it is known. */
export const pace = signal<ReadonlyMap<string, number>>(new Map());

const followed = new Set<string>();
const isOver = (state: Seen["state"]): boolean => state === "done" || state === "failed" || state === "cancelled";

const change = (id: string, seen: Seen): void => {
  jobs.value = jobs.value.map((job) => (job.id === id ? { ...job, ...seen } : job));
};

export const dismiss = (id: string): void => {
  jobs.value = jobs.value.filter((job) => job.id !== id);
};

/** Finds what is under way and watches it. */
export async function findJobs(): Promise<void> {
  const found = (await listJobs()).filter((job) => !isOver(job.state));
  const failed = jobs.value.filter((job) => job.state === "failed");
  jobs.value = [...found, ...failed.filter((job) => !found.some(({ id }) => id === job.id))];
  for (const job of found) void follow(job);
}

/** Watches a job that was just begun; it may be over by now. */
export function watchJob(id: string, kind: Job["kind"], name: string): void {
  if (jobs.value.some((job) => job.id === id)) return;
  const job: Job = {
    id, kind, name, started_at: Date.now() / 1000, state: "waiting", done_bytes: 0, total_bytes: null, file: null, message: null,
  };
  jobs.value = [job, ...jobs.value];
  void follow(job);
}

async function follow(job: Job): Promise<void> {
  if (followed.has(job.id)) return;
  followed.add(job.id);
  let before: { bytes: number; at: number } | null = null;
  try {
    for await (const seen of followJob(job.id, new AbortController().signal)) {
      const at = performance.now();
      if (seen.state === "running" && (before === null || at - before.at > 900)) {
        if (before !== null) note(job.id, (seen.done_bytes - before.bytes) / ((at - before.at) / 1000));
        before = { bytes: seen.done_bytes, at };
      }
      change(job.id, seen);
      if (isOver(seen.state)) end(job, seen);
    }
  } catch (error) {
    // The connection is gone; what is under way goes on and is found again.
    if (!isAborted(error)) setTimeout(() => void findJobs().catch(() => undefined), 3000);
  } finally {
    followed.delete(job.id);
  }
}

/** Evened out, or the time that is left would jump. */
function note(id: string, rate: number): void {
  const known = pace.value.get(id);
  const evened = known === undefined ? rate : 0.7 * known + 0.3 * rate;
  pace.value = new Map(pace.value).set(id, Math.max(0, evened));
}

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
