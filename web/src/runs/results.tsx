// What evaluations found: every checkpoint on the same problems, with the interval of each number.

import { number, percent } from "../i18n/format";
import type { Estimate, Score, Whole } from "../api/runs";
import { type Column, Empty, Table } from "../ui/index";
import { type RunData, scoreOf } from "./data";
import { nameOf } from "./metrics";
import { Length, OverLine } from "./parts";
import { words } from "./words";

/** What an evaluation, which is a stage, found of a checkpoint. */
export type Result = { stage: string; checkpoint: string; score: Score; isControl: boolean };

/** The journal tells each checkpoint as soon as it is examined, the checkpoint files when all are. */
export function results(data: RunData, whole: Whole | null): Result[] {
  const controls = new Set(whole?.stages.filter((stage) => stage.control).map((stage) => stage.name));
  const all = new Map<string, Result>();
  for (const exam of whole?.scores ?? []) {
    for (const { checkpoint, score } of exam.checkpoints) {
      const read = scoreOf(score);
      if (read) all.set(`${exam.stage}/${checkpoint}`, { stage: exam.stage, checkpoint, score: read, isControl: exam.control });
    }
  }
  for (const stage of data.stages.values()) {
    for (const { checkpoint, score } of stage.scored) {
      all.set(`${stage.name}/${checkpoint}`, { stage: stage.name, checkpoint, score, isControl: controls.has(stage.name) });
    }
  }
  return [...all.values()];
}

/** A share on a line from nothing to all, with its interval. */
function Whisker({ of }: { of: Estimate }) {
  const left = (share: number): string => `${100 * Math.min(1, Math.max(0, share))}%`;
  const width = `${100 * Math.max(0, Math.min(1, of.high) - Math.max(0, of.low))}%`;
  return (
    <span class="whisker" aria-hidden="true">
      <i style={{ left: left(of.low), width }} />
      <b style={{ left: left(of.value) }} />
    </span>
  );
}

function Share({ of }: { of: Estimate }) {
  return (
    <>
      {percent(of.value, 1)}
      <small class="interval" title={words.value.interval(percent(of.low, 1), percent(of.high, 1))}>
        {percent(of.low, 1)} – {percent(of.high, 1)}
      </small>
    </>
  );
}

function ResultTable({ rows, label }: { rows: readonly Result[]; label: string }) {
  const say = words.value;
  const most = Math.max(1, ...rows.map((row) => row.score.mean_thinking_tokens));
  const columns: Column<Result>[] = [
    { head: say.checkpoint, cell: ({ checkpoint }) => checkpoint, as: "name" },
    {
      head: say.pass_1,
      cell: ({ score }) => (
        <OverLine picture={<Whisker of={score.pass_at_1} />}>
          <Share of={score.pass_at_1} />
        </OverLine>
      ),
      as: "wide",
    },
    { head: say.greedy, cell: ({ score }) => <Share of={score.greedy} />, as: "number" },
    { head: say.pass_8, cell: ({ score }) => <Share of={score.pass_at_8} />, as: "number" },
    { head: say.majority, cell: ({ score }) => <Share of={score.majority_at_8} />, as: "number" },
    {
      head: nameOf("thinking_tokens"),
      cell: ({ score: { mean_thinking_tokens: tokens } }) => (
        <OverLine picture={<Length of={tokens} longest={most} />}>{number(tokens, { maximumFractionDigits: 1 })}</OverLine>
      ),
      as: "wide",
    },
    { head: nameOf("self_checks"), cell: ({ score }) => number(score.self_checks, { maximumFractionDigits: 2 }), as: "number" },
    { head: nameOf("in_form"), cell: ({ score }) => percent(score.in_form, 1), as: "number" },
  ];
  return <Table label={label} rows={rows} columns={columns} id={(row) => `${row.stage}/${row.checkpoint}`} />;
}

export function Results({ data, whole }: { data: RunData; whole: Whole | null }) {
  // Redrawn as checkpoints are examined.
  void data.version.value;
  const all = results(data, whole);
  const [main, controls] = [all.filter((row) => !row.isControl), all.filter((row) => row.isControl)];
  if (all.length === 0) return <Empty icon="scale" title={words.value.results_title}>{words.value.results_none}</Empty>;
  const problems = all[0]?.score.problems ?? 0;
  return (
    <section class="stack">
      {main.length > 0 && (
        <>
          <h2>{words.value.results_title}</h2>
          <ResultTable rows={main} label={words.value.results_title} />
        </>
      )}
      {controls.length > 0 && (
        <>
          <h2>{words.value.controls_title}</h2>
          <ResultTable rows={controls} label={words.value.controls_title} />
        </>
      )}
      <p class="muted fine">{words.value.results_words(number(problems))}</p>
    </section>
  );
}
