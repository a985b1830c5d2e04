// Samples that belong beside each other: one question through the checkpoints, one stage through its steps.

import type { Sample } from "./data";

/** Samples in the order in which one looks at them; `label` is what each stands for. */
export type Row = { name: string; answers: { label: string; sample: Sample }[] };

/** Most bars beside each other. */
const MOST_BARS = 40;

/** Questions that were put to every checkpoint, with the last answer of each. */
export function followed(samples: readonly Sample[]): Row[] {
  const all = new Map<string, Map<string, Sample>>();
  for (const sample of samples) {
    if (sample.checkpoint === null) continue;
    let answers = all.get(sample.question);
    if (!answers) all.set(sample.question, (answers = new Map()));
    answers.set(sample.checkpoint, sample);
  }
  return [...all].map(([name, answers]) => ({
    name,
    answers: [...answers].map(([label, sample]) => ({ label, sample })),
  }));
}

/** What each stage said while it learned, step after step. */
export function learned(samples: readonly Sample[]): Row[] {
  const all = new Map<string, Sample[]>();
  for (const sample of samples) {
    if (sample.checkpoint !== null || sample.step === null) continue;
    const own = all.get(sample.stage);
    if (own) own.push(sample);
    else all.set(sample.stage, [sample]);
  }
  return [...all].map(([name, own]) => {
    const stride = Math.max(1, Math.ceil(own.length / MOST_BARS));
    const some = own.filter((_, at) => at % stride === 0 || at === own.length - 1);
    return { name, answers: some.map((sample) => ({ label: String(sample.step ?? 0), sample })) };
  });
}
