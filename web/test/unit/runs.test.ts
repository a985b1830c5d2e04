import { describe, expect, it } from "vitest";
import { RunData, scoreOf } from "../../src/runs/data";
import { loads, parts, times } from "../../src/runs/loads";
import { band, lowerBound, points, spans } from "../../src/runs/points";
import { followed, learned } from "../../src/runs/rows";
import { attempts, said } from "../../src/runs/said";

const journal = (lines: unknown[], offset = 0) => ({ file: "journal" as const, offset, lines });
const timings = (lines: unknown[], offset = 0) => ({ file: "timings" as const, offset, lines });
const line = (stage: string, step: number, more: object = {}) => ({ stage, kind: "pretrain", step, loss: 1 / (step + 1), ...more });

describe("what is heard of a run", () => {
  it("is kept by stage and step", () => {
    const data = new RunData();
    data.hear(journal([line("base", 0), line("base", 1, { accuracy: 0.5 }), line("zero", 0)]));
    expect([...data.stages.keys()]).toEqual(["base", "zero"]);
    expect(points(data, "loss", { stage: "base" })).toEqual({ x: [1, 2], y: [1, 0.5] });
    expect(points(data, "accuracy", { stage: "base" }).x).toEqual([2]);
    expect(points(data, "nothing", { stage: "base" }).x).toEqual([]);
    expect(points(data, "loss", { stage: "none" }).x).toEqual([]);
  });

  it("is void after a reset, and comes anew", () => {
    const data = new RunData();
    data.hear(journal([line("base", 0), line("base", 1), line("base", 2)]));
    data.hear({ file: "journal", reset: true });
    data.hear(journal([line("base", 0), line("base", 1)]));
    expect(points(data, "loss", { stage: "base" }).x).toEqual([1, 2]);
  });

  it("counts a step that was made twice as it went the last time", () => {
    const data = new RunData();
    const time = (step: number, seconds: number) => ({ stage: "base", step, seconds, tokens_trained: 10, tokens_generated: 0 });
    data.hear(timings([time(0, 1), time(1, 1), time(1, 3)]));
    expect(spans(data)).toEqual([{ name: "base", from: 0, to: 4 }]);
    expect(points(data, "tokens_per_second", { stage: "base" }).y[1]).toBeCloseTo(10 / 3);
  });

  it("lies along the seconds of the run, with gaps between stages", () => {
    const data = new RunData();
    data.hear(journal([line("a", 0), line("a", 1), line("b", 0)]));
    data.hear(timings([{ stage: "a", step: 0, seconds: 2 }, { stage: "a", step: 1, seconds: 3 }, { stage: "b", step: 0, seconds: 4 }]));
    const { x, y } = points(data, "loss", { stage: null });
    expect(x.map(Math.round)).toEqual([2, 5, 5, 9]);
    expect(y).toEqual([1, 0.5, NaN, 1]);
    expect([...x].sort((p, q) => p - q)).toEqual(x);
    expect(new Set(x).size).toBe(x.length);
  });

  it("leaves out what is not of the shape", () => {
    const data = new RunData();
    const hostile: unknown[] = [
      null, 7, "x", [], {}, { stage: 7, step: 0 }, { stage: "a", step: -1 }, { stage: "a", step: 1.5 }, { stage: "a", step: 1e300 },
      { stage: "__proto__", kind: "x", step: 0, constructor: 1, __proto__: { loss: 1 } },
      { stage: "a", kind: "x", step: 0, loss: "no", accuracy: null, expert_load: [[1], "x"] },
    ];
    data.hear(journal(hostile));
    data.hear(timings([{ stage: "a", step: 0, seconds: -1 }, { stage: "a", step: 0, seconds: "1" }]));
    data.hear({ file: "samples", offset: 0, lines: [{ question: 1 }, { stage: "a", question: "q", text: "t" }] });
    expect(points(data, "loss", { stage: "a" }).x).toEqual([]);
    expect(data.stages.get("a")?.loads).toEqual([]);
    expect(data.samples).toHaveLength(1);
    expect(({} as Record<string, unknown>)["loss"]).toBeUndefined();
    for (let at = 0; at < 1000; at++) data.hear(journal([line(`s${at}`, 0)]));
    expect(data.stages.size).toBe(256);
  });

  it("takes scores that are whole", () => {
    const one = { value: 0.5, low: 0.4, high: 0.6 };
    const whole = { problems: 4, pass_at_1: one, greedy: one, pass_at_8: one, majority_at_8: one };
    expect(scoreOf(whole)?.pass_at_1.high).toBe(0.6);
    expect(scoreOf({ ...whole, greedy: { value: "1" } })).toBeNull();
    expect(scoreOf(null)).toBeNull();
  });
});

describe("the load of experts", () => {
  const load = (stage: string, step: number, ...layers: number[][]) => line(stage, step, { expert_load: layers });

  it("is that of the newest model, of the whole run or of one stage", () => {
    const data = new RunData();
    data.hear(journal([load("base", 0, [0.5, 0.5]), load("student", 0, [0.1, 0.2, 0.7]), load("student", 10, [0.2, 0.2, 0.6])]));
    expect(loads(data, null).map(({ label }) => label)).toEqual(["student, step 1", "student, step 11"]);
    expect(loads(data, "base").map(({ layers }) => layers)).toEqual([[[0.5, 0.5]]]);
    expect(loads(data, "none")).toEqual([]);
  });

  it("is put together to as many parts as there is room for", () => {
    const all = [0, 1, 2, 3, 4].map((at) => ({ label: String(at), layers: [[at / 4, 1 - at / 4]] }));
    expect(parts(all, 2)).toEqual([
      { label: "0", layers: [[0.125, 0.875]] },
      { label: "2", layers: [[0.75, 0.25]] },
    ]);
    expect(parts(all, 99)).toEqual(all);
    expect(parts([], 3)).toEqual([]);
  });

  it("is told in multiples of the even share", () => {
    expect(times(0.25, [0, 0, 0, 0])).toBe("1×");
    expect(times(0.37, [0, 0, 0, 0])).toBe("1.5×");
  });
});

describe("a band", () => {
  const many = { x: Array.from({ length: 10_000 }, (_, at) => at), y: Array.from({ length: 10_000 }, (_, at) => at % 2) };

  it("stands for all points with their range", () => {
    const { x, mean, low, high } = band(many, 100, null);
    expect(x.length).toBeLessThanOrEqual(101);
    expect(x.at(-1)).toBe(9999);
    expect(mean.slice(0, -1).every((value) => value !== null && Math.abs(value - 0.5) < 0.02)).toBe(true);
    expect([low[3], high[3]]).toEqual([0, 1]);
  });

  it("shows more of less", () => {
    const near = band(many, 100, [500, 550]);
    expect(near.x.length).toBeGreaterThan(48);
    expect(near.x[0]).toBeLessThanOrEqual(500);
    expect(near.x.at(-1)).toBeGreaterThanOrEqual(550);
  });

  it("keeps few points and gaps as they are", () => {
    expect(band({ x: [1, 2, 3], y: [5, NaN, 7] }, 100, null).mean).toEqual([5, null, 7]);
    expect(band({ x: [], y: [] }, 100, null).x).toEqual([]);
    expect(band({ x: [1, 1, 1], y: [1, 2, 3] }, 2, null).mean).toEqual([1, 2, 3]);
  });

  it("finds places", () => {
    expect([0, 1, 2.5, 9].map((value) => lowerBound([1, 2, 3], value))).toEqual([0, 0, 2, 3]);
  });
});

describe("what was said", () => {
  it("is taken apart", () => {
    expect(said("<think> 1 + 2 no </think> 3 <eos>")).toEqual({ thought: "1 + 2 no", answer: "3", hasEnded: true, words: 4 });
    expect(said("3 + 4 <eos>")).toEqual({ thought: null, answer: "3 + 4", hasEnded: true, words: 0 });
    expect(said("<think> 1 2")).toEqual({ thought: "1 2", answer: "", hasEnded: false, words: 2 });
    // A template that opened the thought, and a published model's last token.
    expect(said("so\n</think>\n\n42<｜end▁of▁sentence｜>")).toEqual({ thought: "so", answer: "42", hasEnded: true, words: 1 });
    expect(said("").hasEnded).toBe(false);
    expect(said("<b>bold</b>").answer).toBe("<b>bold</b>");
  });

  it("breaks after self-checks", () => {
    const lines = attempts("try 1 no 2 yes", ["no"]);
    expect(lines.map((line) => line.map((piece) => piece.text.trim()).join(" "))).toEqual(["try 1 no", "2 yes"]);
    expect(lines[0]?.[1]?.isCheck).toBe(true);
    expect(attempts("a\nb", [])).toHaveLength(2);
  });

  it("is followed through checkpoints and steps", () => {
    const sample = { stage: "evaluation", step: null, checkpoint: "base", question: "q", text: "t", right: true, reward: null };
    const rows = followed([sample, { ...sample, checkpoint: "r1" }, { ...sample, checkpoint: "r1", text: "later" }]);
    expect(rows[0]?.answers.map((answer) => [answer.label, answer.sample.text])).toEqual([["base", "t"], ["r1", "later"]]);
    const steps = Array.from({ length: 200 }, (_, at) => ({ ...sample, stage: "zero", checkpoint: null, step: at + 1 }));
    const [row] = learned(steps);
    expect(row?.answers.length).toBeLessThanOrEqual(42);
    expect(row?.answers.at(-1)?.sample.step).toBe(200);
  });
});
