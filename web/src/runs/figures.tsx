// What a run came to, in a few numbers, and what it was made of.

import { useMemo } from "preact/hooks";
import type { Whole } from "../api/runs";
import { count, date, energy, number, percent, seconds } from "../i18n/format";
import { Figure } from "../ui/index";
import { allMoney, energyMethod } from "./bill";
import type { RunData } from "./data";
import { type Result, results } from "./results";
import { words } from "./words";

/** The first and the last number of a metric over the whole run. */
function ends(data: RunData, metric: string): { first: number; last: number; best: number } | null {
  let [first, last, best] = [NaN, NaN, -Infinity];
  for (const stage of data.stages.values()) {
    const values = stage.metrics.get(metric)?.values ?? [];
    if (values.length === 0) continue;
    if (Number.isNaN(first)) first = values[0] ?? NaN;
    last = values.at(-1) ?? NaN;
    for (const value of values) best = Math.max(best, value);
  }
  return Number.isNaN(first) || Number.isNaN(last) ? null : { first, last, best };
}

const share = (result: Result): number => result.score.pass_at_1.value;

export function Figures({ data, whole }: { data: RunData; whole: Whole }) {
  const say = words.value;
  const version = data.version.value;
  const { accuracy, thinking, time, tokens } = useMemo(() => {
    let [time, made] = [0, 0];
    for (const stage of data.stages.values()) {
      time += stage.used;
      made += stage.tokens.reduce((sum, tokens) => sum + (tokens ?? 0), 0);
    }
    return {
      accuracy: ends(data, "accuracy"),
      thinking: ends(data, "thinking_tokens"),
      time,
      tokens: Math.max(made, whole.tokens_trained + whole.tokens_generated),
    };
  }, [data, version, whole]);
  const tokensOf = (value: number): string => number(value, { maximumFractionDigits: value < 10 ? 1 : 0 });
  const bill = whole.bill;
  // Where checkpoints were examined on the same problems, that is the run's result.
  const examined = results(data, whole).filter((result) => !result.isControl);
  const best = examined.reduce<Result | null>((best, one) => (best && share(best) >= share(one) ? best : one), null);
  const first = examined[0];
  return (
    <dl class="figures">
      {best && first && (
        <Figure
          label={say.accuracy}
          value={percent(share(best), 1)}
          about={say.from_examined(best.checkpoint, first.checkpoint, percent(share(first), 1))}
        />
      )}
      {!best && accuracy && (
        <Figure label={say.accuracy} value={percent(accuracy.last)} about={say.from_best(percent(accuracy.first), percent(accuracy.best))} />
      )}
      {thinking && (
        <Figure
          label={say.thinking}
          value={say.n_tokens(tokensOf(thinking.last))}
          about={say.from_first(tokensOf(thinking.first))}
        />
      )}
      <Figure
        label={say.time}
        value={seconds(Math.max(time, whole.seconds))}
        about={bill ? say.core_time(seconds(bill.core_seconds)) : ""}
      />
      <Figure
        label={say.tokens}
        value={count(tokens)}
        about={say.tokens_words(count(whole.tokens_trained), count(whole.tokens_generated))}
      />
      {bill && bill.energy !== null && <Figure label={say.energy} value={energy(bill.joules)} about={energyMethod(bill)} />}
      {bill && <Figure label={say.money} value={allMoney(bill)} />}
    </dl>
  );
}

/** What it was asked to do, when and where. */
export function Facts({ whole }: { whole: Whole }) {
  const say = words.value;
  const facts: [string, string][] = [
    [say.task, whole.task],
    [say.seed, number(whole.seed, { useGrouping: false })],
    [say.budget, say.minutes(number(whole.budget_minutes))],
  ];
  if (whole.started_at !== null) facts.push([say.started, date(whole.started_at)]);
  if (whole.ended_at !== null && whole.state !== "running") facts.push([say.ended, date(whole.ended_at)]);
  if (whole.folder !== null) facts.push([say.folder, whole.folder]);
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd class={name === say.folder ? "mono" : ""}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
