// Folders of runs as real ones are, made up: the recipe of the repository, with numbers that look as if
// something had been learnt.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const RECIPE = join(dirname(fileURLToPath(import.meta.url)), "../../recipes/r1-tiny.toml");
/** Name, kind, steps; in the order of the recipe. */
export const STAGES = [
  ["base", "pretrain", 300],
  ["r1-zero", "grpo", 30],
  ["cold-start-traces", "reject", 8],
  ["cold-start", "sft", 20],
  ["reasoning-rl", "grpo", 12],
  ["sft-traces", "reject", 8],
  ["sft", "sft", 60],
  ["r1", "grpo", 8],
  ["student-base", "pretrain", 200],
  ["student-traces", "reject", 8],
  ["distilled", "distill", 100],
  ["student-rl", "grpo", 20],
  ["evaluation", "eval", 0],
];
export const QUESTION = "8 12 3 make 12";

const lines = (all) => all.map((one) => `${JSON.stringify(one)}\n`).join("");
/** The same noise every time. */
function noise(seed) {
  let state = seed;
  return () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31 - 0.5;
}
const thought = (tries) => Array.from({ length: tries }, (_, at) => `try 8 + ${at} ${8 + at} , ${8 + at} * 3 ${24 + 3 * at} 12 no`).join(" ");

/** Writes a run into a folder; of `done` stages the last is the one it stopped in, if it did. */
export function makeRun(folder, { done = STAGES.length, seed = 1, gain = 1 } = {}) {
  mkdirSync(join(folder, "checkpoints"), { recursive: true });
  // A run without its controls, as most are.
  const [recipe] = readFileSync(RECIPE, "utf8").split(/^# Controls/m);
  writeFileSync(join(folder, "recipe.toml"), recipe);
  const [journal, timings, samples] = [[], [], []];
  const wobble = noise(seed);
  const taught = STAGES.filter(([, kind]) => kind !== "eval" && kind !== "reject").map(([name]) => name);
  STAGES.slice(0, done).forEach(([stage, kind, steps], place) => {
    const isCut = done < STAGES.length && place === done - 1;
    for (let step = 0; step < (isCut ? Math.ceil(steps / 2) : steps); step += 1) {
      const share = step / Math.max(1, steps);
      const line = { stage, kind, step };
      if (kind === "pretrain" || kind === "sft" || kind === "distill") {
        Object.assign(line, { loss: 0.8 + 3.4 * Math.exp(-6 * share) + 0.1 * wobble(), entropy: 1 + 3 * Math.exp(-5 * share), gradient_norm: 1 + wobble(), learning_rate: 1e-3 * (1 - share) });
        if (step % 10 === 0) line.expert_load = Array.from({ length: 3 }, () => Array.from({ length: 8 }, (_, expert) => 0.125 + 0.05 * wobble() * (1 - share) + (expert === 2 ? 0.03 : 0)));
      } else if (kind === "grpo") {
        const level = gain * (0.3 + 0.06 * place + 0.3 * share);
        Object.assign(line, { reward: level + 0.08 * wobble(), accuracy: Math.min(1, level + 0.06 * wobble()), thinking_tokens: 20 + 15 * place * share + 6 * wobble(), entropy: 0.9 - 0.4 * share, kl: 0.02 * share, truncated: 0.05, in_form: 0.9 + 0.1 * share });
        if (step % 5 === 0) samples.push({ stage, step, question: `${step} 2 6 make ${step + 4}`, text: `<think> ${thought(1 + (step % 4))} yes </think> ( 6 - 2 ) + ${step} <eos>`, reward: step === 0 ? null : step % 2 });
      } else Object.assign(line, { accuracy: 0.4 + 0.5 * share, kept: 10 * step });
      journal.push(line);
      timings.push({ stage, step, seconds: 0.1 + 0.02 * wobble(), tokens_trained: kind === "grpo" ? 900 : 1400, tokens_generated: kind === "grpo" ? 2200 : 0 });
    }
    if (isCut) return;
    const final = join(folder, "checkpoints", stage, "final");
    mkdirSync(final, { recursive: true });
    writeFileSync(join(final, "manifest.json"), "{}\n");
    if (kind !== "eval") return;
    const estimate = (value) => ({ value, low: value - 0.03, high: value + 0.03 });
    const scores = taught.map((checkpoint, at) => {
      const level = Math.min(0.95, gain * (0.17 + 0.09 * at));
      for (const question of [QUESTION, "1 9 12 make 3"])
        samples.push({ stage, checkpoint, question, text: at === 0 ? "( 12 - 8 ) * 3 <eos>" : `<think> ${thought(at)} 12 - 8 4 , 4 * 3 12 12 yes </think> ( 12 - 8 ) * 3 <eos>`, correct: at > 1 });
      const score = { problems: 500, pass_at_1: estimate(level), greedy: estimate(level * 0.95), pass_at_8: estimate(Math.min(1, level + 0.25)), majority_at_8: estimate(Math.min(1, level + 0.1)), mean_thinking_tokens: 12 + 14 * at, mean_tokens: 21 + 14 * at, think_rate: Math.min(1, 0.2 + 0.15 * at), self_checks: at, in_form: 0.99 };
      return { checkpoint, score, curve: null };
    });
    writeFileSync(join(final, "scores.json"), JSON.stringify(scores));
  });
  writeFileSync(join(folder, "journal.jsonl"), lines(journal));
  writeFileSync(join(folder, "timings.jsonl"), lines(timings));
  writeFileSync(join(folder, "samples.jsonl"), lines(samples));
}
