import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Model } from "../../src/api/models";
import { all, filter, licences, methods, NO_FILTER, NONE, parted, shown } from "../../src/models/catalogue";
import { isUnderWay, jobs, watchJob } from "../../src/models/jobs";
import { methodIn, methodOf } from "../../src/models/methods";

const model = (name: string, more: Partial<Model> = {}): Model => ({
  name,
  stored: true,
  served: true,
  loaded: false,
  bytes: 1e6,
  parameters: null,
  active_parameters: null,
  quantization: null,
  architecture: null,
  licence: null,
  base_models: [],
  method: null,
  origin: null,
  revision: null,
  created_at: 0,
  context: null,
  card: null,
  lineage: [],
  cost: null,
  forecast: null,
  measured: null,
  ...more,
});

const names = (): string[] => shown.value.map(({ name }) => name);

beforeEach(() => {
  filter.value = NO_FILTER;
  all.value = [
    model("o/large", { bytes: 5e9, licence: "mit", method: "finetune", base_models: ["Qwen/Base"] }),
    model("b", { licence: "apache-2.0", method: "grpo", loaded: true }),
    model("a", { method: "quantized", quantization: "Q4_K" }),
  ];
});

test("loaded models come first, then names in order", () => {
  expect(names()).toEqual(["b", "a", "o/large"]);
});

test("words, sizes, licences and methods narrow the list together", () => {
  for (const [part, expected] of [
    [{ text: "LARGE" }, ["o/large"]],
    [{ text: "qwen mit" }, ["o/large"]],
    [{ text: "q4_k" }, ["a"]],
    [{ size: "<4000000000" }, ["b", "a"]],
    [{ size: ">4000000000" }, ["o/large"]],
    [{ licence: NONE }, ["a"]],
    [{ licence: "mit", method: "tuned" }, ["o/large"]],
    [{ licence: "mit", method: "self_taught" }, []],
  ] as const) {
    filter.value = { ...NO_FILTER, ...part };
    expect(names(), JSON.stringify(part)).toEqual(expected);
  }
});

test("only what occurs can be chosen", () => {
  expect(licences.value).toEqual([NONE, "apache-2.0", "mit"]);
  expect(methods.value).toEqual(["quantized", "self_taught", "tuned"]);
});

test("words of cards and stages are methods, others stay as they are", () => {
  expect(methodOf("Pretrain")).toBe("pretrained");
  expect(methodOf("constructor")).toBeNull();
  expect(methodIn("distill")).toBe("Distilled");
  expect(methodIn("evolved")).toBe("evolved");
  expect(methodIn(null)).toBeNull();
});

test("owners stand apart from names", () => {
  expect(parted("o/n:Q4")).toEqual({ owner: "o/", own: "n:Q4" });
  expect(parted("r1")).toEqual({ owner: "", own: "r1" });
});

describe("a job", () => {
  const event = (seen: object): string =>
    `data: ${JSON.stringify({ state: "running", done_bytes: 0, total_bytes: 10, file: null, message: null, ...seen })}\n\n`;

  beforeEach(() => {
    vi.useFakeTimers();
    jobs.value = [];
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  /** What the server answers to one request after the other; null where it cannot be reached. */
  const server = (answers: (Response | null)[]) => {
    const asked = vi.fn(() => {
      const answer = answers.shift();
      return answer ? Promise.resolve(answer) : Promise.reject(new TypeError("no server"));
    });
    vi.stubGlobal("fetch", asked);
    return asked;
  };

  test("is watched to its end, however often the connection is lost", async () => {
    const asked = server([new Response(event({ done_bytes: 3 })), null, null, new Response(event({ done_bytes: 7 }) + event({ state: "failed", message: "full" }))]);
    watchJob("lost", "pull", "o/n");
    expect(isUnderWay("o/n")).toBe(true);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(asked).toHaveBeenCalledTimes(4);
    expect(jobs.value.map(({ state, message }) => [state, message])).toEqual([["failed", "full"]]);
    expect(isUnderWay("o/n")).toBe(false);
  });

  test("goes where the server knows it no more", async () => {
    const asked = server([new Response(event({ done_bytes: 3 })), new Response("{}", { status: 404 })]);
    watchJob("gone", "pull", "o/n");
    await vi.advanceTimersByTimeAsync(20_000);
    expect(asked).toHaveBeenCalledTimes(2);
    expect(jobs.value).toEqual([]);
  });
});
