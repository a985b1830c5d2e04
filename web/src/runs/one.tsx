// One run: how it stands, its stages, its curves as they grow, what the models said, what it cost.

import { useMemo, useState } from "preact/hooks";
import { RailButton } from "../app/shell";
import { go, href } from "../app/route";
import { session } from "../app/state";
import { ApiError } from "../api/http";
import { resumeRun, stopRun, type Whole } from "../api/runs";
import { count, date, energy, number, percent, seconds } from "../i18n/format";
import { Button, confirm, Empty, Fold, Icon, LinkButton, Menu, Note, say as toast, Tabs } from "../ui/index";
import { allMoney, Bill, energyMethod } from "./bill";
import { Charts } from "./charts";
import type { RunData } from "./data";
import { Grow } from "./grow";
import { useList } from "./list";
import { type Live, useRun } from "./live";
import { Figure, StateBadge } from "./parts";
import { type Result, Results, results } from "./results";
import { Samples } from "./samples";
import { StageStrip } from "./strip";
import { words } from "./words";

type Tab = "curves" | "thinking" | "results" | "bill";

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

function Figures({ data, whole }: { data: RunData; whole: Whole }) {
  const say = words.value;
  const version = data.version.value;
  const { accuracy, thinking, time, tokens } = useMemo(() => {
    let [time, trained, made] = [0, 0, 0];
    for (const stage of data.stages.values()) {
      time += stage.used;
      made += stage.tokens.reduce((sum, tokens) => sum + (tokens ?? 0), 0);
    }
    trained = whole.tokens_trained;
    return {
      accuracy: ends(data, "accuracy"),
      thinking: ends(data, "thinking_tokens"),
      time,
      tokens: Math.max(made, trained + whole.tokens_generated),
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

async function deed(what: "stop" | "resume", id: string, done: () => void): Promise<void> {
  const say = words.value;
  const yes = await confirm({
    title: what === "stop" ? say.stop_title : say.resume_title,
    words: what === "stop" ? say.stop_words : say.resume_words,
    yes: what === "stop" ? say.stop : say.resume,
    no: say.cancel,
    isDanger: what === "stop",
  });
  if (!yes) return;
  try {
    await (what === "stop" ? stopRun(id) : resumeRun(id));
    toast(what === "stop" ? say.stop_asked : say.resume_asked, "good");
    done();
  } catch (error) {
    const words = error instanceof ApiError ? error.message : "";
    toast(say.deed_failed + words, "bad");
  }
}

function Deeds({ whole, live }: { whole: Whole; live: Live }) {
  const say = words.value;
  const { list } = useList();
  const others = (list?.data ?? []).filter((run) => run.id !== whole.id);
  const standing = live.data.standing.value ?? whole;
  const may = session.value?.may_manage ?? false;
  return (
    <>
      {others.length > 0 && (
        <Menu
          label={say.compare_with}
          icon="compare"
          face={say.compare}
          entries={[
            { title: say.compare_with },
            ...others.slice(0, 12).map((run) => ({
              label: run.name,
              about: run.recipe !== run.name ? run.recipe : (say.state[run.state] ?? ""),
              run: () => go("runs", `${whole.id},${run.id}`),
            })),
          ]}
        />
      )}
      {may && standing.state === "running" && (
        <Button
          kind="danger"
          icon="stop"
          disabled={standing.stopping}
          onClick={() => void deed("stop", whole.id, live.refresh)}
        >
          {standing.stopping ? say.stopping : say.stop}
        </Button>
      )}
      {may && (standing.state === "stopped" || standing.state === "failed") && (
        <Button kind="primary" icon="play" onClick={() => void deed("resume", whole.id, live.refresh)}>
          {say.resume}
        </Button>
      )}
    </>
  );
}

/** Where lines above end and what they are about. */
function Facts({ whole }: { whole: Whole }) {
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

export function One({ id }: { id: string }) {
  const live = useRun(id);
  const [tab, setTab] = useState<Tab>("curves");
  const [stage, setStage] = useState<string | null>(null);
  const say = words.value;
  const { data, whole, fault } = live;
  const standing = data.standing.value ?? whole;
  const head = (
    <header class="view-head">
      <RailButton />
      <a class="button quiet bare" href={href("runs")} aria-label={say.back} title={say.back}>
        <Icon name="chevron_left" />
      </a>
      <h1 class="truncate">{whole?.name ?? ""}</h1>
      {standing && <StateBadge state={standing.state} stopping={standing.stopping} />}
      <span class="head-gap" />
      {whole && <Deeds whole={whole} live={live} />}
    </header>
  );
  if (fault === "unknown" && !whole)
    return (
      <>
        {head}
        <Empty icon="search" title={say.unknown} actions={<LinkButton href={href("runs")}>{say.back}</LinkButton>} />
      </>
    );
  const tabs: [Tab, string][] = [
    ["curves", say.tab_curves],
    ["thinking", say.tab_thinking],
    ["results", say.tab_results],
    ["bill", say.tab_bill],
  ];
  const checks = whole?.self_check_words ?? [];
  // Not a hook's business: the list is short, and made anew with each state.
  const runs = [{ id, name: whole?.name ?? "", data }];
  return (
    <>
      {head}
      <div class="view-page runs">
        <div class="inside stack">
          {fault === "failed" && (
            <Note tone="bad" actions={<Button onClick={live.again}>{say.again}</Button>}>
              {say.failed}
            </Note>
          )}
          {!data.isConnected.value && <Note tone="warn">{say.connection_lost}</Note>}
          {data.damaged.value.map((file) => (
            <Note key={file} tone="warn">
              {say.damaged(file)}
            </Note>
          ))}
          {whole?.problem && (
            <Note tone="warn" title={say.problem}>
              {whole.problem}
            </Note>
          )}
          {whole === null ? (
            <div class="loading" role="status">
              <Icon name="spinner" />
              <span class="hidden-text">{say.loading}</span>
            </div>
          ) : (
            <>
              <div class="run-head">
                {whole.about !== "" && <p class="about">{whole.about}</p>}
                <Facts whole={whole} />
              </div>
              <Figures data={data} whole={whole} />
              <StageStrip
                stages={standing?.stages ?? []}
                steps={(one) => (void data.version.value, data.steps(one))}
                chosen={stage}
                onChoose={(chosen) => {
                  setStage(chosen);
                  setTab("curves");
                }}
              />
              <Tabs label={whole.name} value={tab} options={tabs} onChange={setTab} />
              <div role="tabpanel" aria-label={tabs.find(([name]) => name === tab)?.[1]} class="stack">
                {tab === "curves" &&
                  (data.isComplete.value || data.version.value > 0 ? (
                    <Charts runs={runs} stage={stage} />
                  ) : (
                    <p class="muted nothing" role="status">
                      {say.catching_up}
                    </p>
                  ))}
                {tab === "thinking" && (
                  <>
                    <Grow data={data} checks={checks} />
                    <Samples data={data} checks={checks} stage={stage} />
                  </>
                )}
                {tab === "results" && <Results data={data} whole={whole} />}
                {tab === "bill" && <Bill whole={whole} />}
              </div>
              {whole.log !== null && (
                <Fold head={say.log}>
                  <pre class="recipe" tabIndex={0} role="region" aria-label={say.log}>
                    {whole.log}
                  </pre>
                </Fold>
              )}
            </>
          )}
        </div>
      </div>
    </>
  );
}
