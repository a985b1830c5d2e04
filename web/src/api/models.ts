// The catalogue of models and the jobs that fetch and check them.

import { type ServerEvent, events, request, send } from "./http";

/** A model that another came from. */
export type Ancestor = { name: string; method: string | null; teacher: string | null; here: boolean };

export type Cost = {
  flops: number;
  core_seconds: number;
  joules: number;
  money: number | null;
  currency: string | null;
};

export type Forecast = { tokens_per_second: number; prompt_tokens_per_second: number; memory_bytes: number };

/** A model that is kept here. What is not known is null. */
export type Model = {
  name: string;
  /** In the store, so that it can be checked and removed. */
  stored: boolean;
  /** Can be asked. */
  served: boolean;
  loaded: boolean;
  bytes: number;
  parameters: number | null;
  active_parameters: number | null;
  quantization: string | null;
  architecture: string | null;
  licence: string | null;
  base_models: string[];
  method: string | null;
  origin: string | null;
  revision: string | null;
  created_at: number;
  context: number | null;
  /** What its makers wrote; with one model alone, not in the list. */
  card: { text: string } | null;
  lineage: Ancestor[];
  cost: Cost | null;
  forecast: Forecast | null;
  measured: { tokens_per_second: number; at: number } | null;
};

export type JobState = "waiting" | "running" | "done" | "failed" | "cancelled";

/** How far a job is. */
export type Seen = {
  state: JobState;
  done_bytes: number;
  total_bytes: number | null;
  file: string | null;
  message: string | null;
};

export type Job = Seen & { id: string; kind: "pull" | "verify"; name: string; started_at: number };

const path = (name: string, deed = ""): string => `/web/models/${encodeURIComponent(name)}${deed}`;

export const listModels = async (signal?: AbortSignal): Promise<Model[]> =>
  (await request<{ data: Model[] }>("GET", "/web/models", { signal })).data;

export const oneModel = (name: string, signal?: AbortSignal): Promise<Model> =>
  request("GET", path(name), { signal });

/** Takes a second or two the first time: the server measures the machine. */
export const forecastOf = (name: string): Promise<Forecast> => request("GET", path(name, "/forecast"));

export const loadModel = (name: string): Promise<unknown> => request("POST", path(name, "/load"));
export const unloadModel = (name: string): Promise<unknown> => request("POST", path(name, "/unload"));
export const removeModel = (name: string): Promise<void> => request("DELETE", path(name));

export const verifyModel = async (name: string): Promise<string> =>
  (await request<{ job: string }>("POST", path(name, "/verify"))).job;

export const pullModel = async (body: { name: string; revision?: string; files?: string }): Promise<string> =>
  (await request<{ job: string }>("POST", "/web/models/pull", { body })).job;

export const listJobs = async (): Promise<Job[]> => (await request<{ data: Job[] }>("GET", "/web/jobs")).data;

export const cancelJob = (id: string): Promise<void> => request("DELETE", `/web/jobs/${id}`);

/** How far a job is, as it changes, to its end. */
export async function* followJob(id: string): AsyncGenerator<Seen> {
  const answer = await send("GET", `/web/jobs/${id}/events`);
  const told: AsyncGenerator<ServerEvent> = events(answer);
  for await (const { data } of told) yield JSON.parse(data) as Seen;
}
