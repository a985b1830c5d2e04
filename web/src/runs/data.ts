// The numbers of a run, as its files tell them: append-only, by stage, told again from the start where a
// file was cut back. What is in the files may be anything; what is not of the expected shape is left out.

import { signal } from "@preact/signals";
import type { FileName, Heard, Offsets, Score, Stage, Standing } from "../api/runs";

/** A line of numbers over steps of one stage. */
export type Series = { steps: number[]; values: number[] };

/** The shares of every expert of every layer after a step. */
export type Load = { step: number; layers: number[][] };

/** A question and what was answered. */
export type Sample = {
  stage: string;
  /** Steps done; null for an evaluation's. */
  step: number | null;
  /** The stage that left the checkpoint which answers; null for those of training. */
  checkpoint: string | null;
  question: string;
  text: string;
  /** What the grader said. */
  right: boolean | null;
  reward: number | null;
};

export type Scored = { stage: string; checkpoint: string; score: Score };

/** What one stage wrote. */
export class StageData {
  readonly metrics = new Map<string, Series>();
  readonly loads: Load[] = [];
  readonly scored: Scored[] = [];
  /** Seconds and tokens of every step, the last time it was made. */
  readonly seconds: number[] = [];
  readonly tokens: number[] = [];
  /** Steps that were journaled. */
  steps = 0;

  constructor(
    readonly name: string,
    public kind: string,
  ) {}

  get used(): number {
    return this.seconds.reduce((sum, seconds) => sum + (seconds ?? 0), 0);
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
/** A step that an array may have a place for. */
const isStep = (value: unknown): value is number => isNumber(value) && value >= 0 && value < 1e8 && Number.isInteger(value);

const MOST_STAGES = 256;
const MOST_SAMPLES = 20_000;

/** A score, if it is one. */
export function scoreOf(value: unknown): Score | null {
  if (!isRecord(value)) return null;
  const estimate = (name: string) => {
    const found = value[name];
    const all = isRecord(found) && isNumber(found["value"]) && isNumber(found["low"]) && isNumber(found["high"]);
    return all ? { value: found["value"] as number, low: found["low"] as number, high: found["high"] as number } : null;
  };
  const plain = (name: string): number => (isNumber(value[name]) ? value[name] : 0);
  const [one, greedy, eight, majority] = [
    estimate("pass_at_1"),
    estimate("greedy"),
    estimate("pass_at_8"),
    estimate("majority_at_8"),
  ];
  if (!one || !greedy || !eight || !majority) return null;
  return {
    problems: plain("problems"),
    pass_at_1: one,
    greedy,
    pass_at_8: eight,
    majority_at_8: majority,
    mean_thinking_tokens: plain("mean_thinking_tokens"),
    mean_tokens: plain("mean_tokens"),
    think_rate: plain("think_rate"),
    self_checks: plain("self_checks"),
    in_form: plain("in_form"),
  };
}

/** Everything heard of one run. Views look at `version`, which changes at most a few times a second. */
export class RunData {
  readonly offsets: Offsets = { journal: 0, timings: 0, samples: 0 };
  /** In the order in which they began to write. */
  stages = new Map<string, StageData>();
  samples: Sample[] = [];
  readonly version = signal(0);
  readonly standing = signal<Standing | null>(null);
  /** Whether all there was has been heard once. */
  readonly isComplete = signal(false);
  readonly isConnected = signal(true);
  /** Files that cannot be read on. */
  readonly damaged = signal<readonly FileName[]>([]);
  private timer: ReturnType<typeof setTimeout> | undefined;

  hear(heard: Heard): void {
    if ("state" in heard) {
      this.standing.value = heard;
      this.isComplete.value = true;
      this.tell(0);
      return;
    }
    if ("reset" in heard) this.forget(heard.file);
    else if ("damaged" in heard) this.damaged.value = [...this.damaged.value, heard.file];
    else
      for (const line of heard.lines) {
        if (!isRecord(line)) continue;
        if (heard.file === "journal") this.note(line);
        else if (heard.file === "timings") this.time(line);
        else this.keep(line);
      }
    // At first there is much: it is drawn now and then, and whole at the end.
    this.tell(this.isComplete.value ? 200 : 600);
  }

  /** Lets views draw, after a moment in which more may come. */
  private tell(after: number): void {
    if (after === 0) {
      clearTimeout(this.timer);
      this.timer = undefined;
      this.version.value += 1;
    } else if (this.timer === undefined) {
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.version.value += 1;
      }, after);
    }
  }

  private forget(file: FileName): void {
    if (file === "samples") {
      this.samples = [];
      return;
    }
    for (const stage of this.stages.values()) {
      if (file === "journal") {
        stage.metrics.clear();
        stage.loads.length = 0;
        stage.scored.length = 0;
        stage.steps = 0;
      } else {
        stage.seconds.length = 0;
        stage.tokens.length = 0;
      }
    }
  }

  private stage(name: unknown, kind: unknown): StageData | null {
    if (typeof name !== "string") return null;
    const known = this.stages.get(name);
    if (known) {
      if (typeof kind === "string" && known.kind === "") known.kind = kind;
      return known;
    }
    if (this.stages.size >= MOST_STAGES) return null;
    const stage = new StageData(name, typeof kind === "string" ? kind : "");
    this.stages.set(name, stage);
    return stage;
  }

  private note(line: Record<string, unknown>): void {
    const { stage: name, kind, step, expert_load: load, score, checkpoint, ...rest } = line;
    const stage = this.stage(name, kind);
    if (!stage || !isStep(step)) return;
    const done = step + 1;
    stage.steps = Math.max(stage.steps, done);
    for (const [metric, value] of Object.entries(rest)) {
      if (!isNumber(value)) continue;
      let series = stage.metrics.get(metric);
      if (!series) {
        if (stage.metrics.size >= 128) continue;
        stage.metrics.set(metric, (series = { steps: [], values: [] }));
      }
      // Steps ascend; a line out of order would draw back in time.
      if ((series.steps.at(-1) ?? 0) >= done) continue;
      series.steps.push(done);
      series.values.push(value);
    }
    if (Array.isArray(load)) {
      const layers = load.filter((layer): layer is number[] => Array.isArray(layer) && layer.every(isNumber));
      if (layers.length === load.length && layers.length > 0) stage.loads.push({ step: done, layers });
    }
    const found = scoreOf(score);
    if (found && typeof checkpoint === "string") stage.scored.push({ stage: stage.name, checkpoint, score: found });
  }

  private time(line: Record<string, unknown>): void {
    const stage = this.stage(line["stage"], undefined);
    const { step, seconds } = line;
    if (!stage || !isStep(step) || !isNumber(seconds) || seconds < 0) return;
    const count = (name: string): number => (isNumber(line[name]) ? line[name] : 0);
    stage.seconds[step] = seconds;
    stage.tokens[step] = count("tokens_trained") + count("tokens_generated");
  }

  private keep(line: Record<string, unknown>): void {
    const { stage, step, checkpoint, question, text, correct, reward } = line;
    if (typeof stage !== "string" || typeof question !== "string" || typeof text !== "string") return;
    if (this.samples.length >= MOST_SAMPLES) return;
    const earned = isNumber(reward) ? reward : null;
    this.samples.push({
      stage,
      step: isStep(step) ? step + 1 : null,
      checkpoint: typeof checkpoint === "string" ? checkpoint : null,
      question,
      text,
      right: typeof correct === "boolean" ? correct : earned === null ? null : earned > 0.5,
      reward: earned,
    });
  }

  /** Steps of a stage as far as heard, which is further than the last standing. */
  steps(stage: Stage): number {
    return Math.max(stage.steps, this.stages.get(stage.name)?.steps ?? 0);
  }
}
