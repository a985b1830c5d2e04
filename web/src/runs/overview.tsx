// All runs, newest first, and everything ever spent.

import { useState } from "preact/hooks";
import { go, href } from "../app/route";
import { ViewHead } from "../app/view_head";
import type { Head, List } from "../api/runs";
import { ago, count, energy, flops, number, percent, seconds } from "../i18n/format";
import { Button, type Column, CopyButton, Empty, Figure, Fold, Icon, Loading, Meter, Note, Table } from "../ui/index";
import { allFlops, allMoney, energyMethod } from "./bill";
import { MOST_COMPARED } from "./compare";
import { useList } from "./list";
import { left, Spark, StateBadge } from "./parts";
import { Steps } from "./strip";
import { words } from "./words";

/** So many of those under way are shown large. */
const MOST_NOW = 3;
const COMMAND = "frugal run r1-tiny --web";

/** What a run has come to: its best examined checkpoint, else its last look at itself. */
function Reached({ run }: { run: Head }) {
  if (run.best) {
    return (
      <span class="reached">
        {percent(run.best.pass_at_1, 1)}
        <small>{run.best.checkpoint}</small>
      </span>
    );
  }
  return <>{run.accuracy === null ? "" : percent(run.accuracy)}</>;
}

/** A run that is under way: where it is, and what it has come to. */
function Now({ run }: { run: Head }) {
  const say = words.value;
  const stage = run.stages.find((stage) => stage.state === "running");
  const rest = stage ? left(stage) : null;
  const done = run.stages.filter((stage) => stage.state === "done").length;
  const step = stage ? say.step_of(number(stage.steps), number(stage.of)) : "";
  return (
    <a class="card panel now" href={href("runs", run.id)}>
      <span class="now-what">
        <span class="now-name">
          <b>{run.name}</b>
          <StateBadge state={run.state} stopping={run.stopping} />
        </span>
        {stage && (
          <>
            <span>
              <strong>{stage.name}</strong> <span class="muted">{say.kind[stage.kind] ?? stage.kind}</span>
            </span>
            <Meter label={say.current} value={stage.of > 0 ? stage.steps / stage.of : null} words={step} />
            <span class="muted fine">{[step, rest === null ? "" : say.left(seconds(rest))].filter(Boolean).join(" · ")}</span>
          </>
        )}
      </span>
      <span class="now-numbers">
        <span class="figure">
          <small>{say.accuracy}</small>
          <b>{run.accuracy === null ? "–" : percent(run.accuracy)}</b>
        </span>
        <span class="figure">
          <small>{say.time}</small>
          <b>{seconds(run.seconds)}</b>
        </span>
        <span class="figure">
          <small>{say.stages}</small>
          <b>
            {done} / {run.stages.length}
          </b>
        </span>
      </span>
      {run.accuracies.length > 1 && <Spark values={run.accuracies} isLarge />}
    </a>
  );
}

function Everything({ list }: { list: List }) {
  const say = words.value;
  const { total, others } = list;
  if (total.seconds === 0 && total.core_seconds === 0) return null;
  return (
    <section class="card panel">
      <header>
        <div>
          <h2>{say.everything}</h2>
          <p class="muted fine">{say.everything_words}</p>
        </div>
      </header>
      <dl class="figures">
        <Figure label={say.money} value={allMoney(total)} about={say.core_time(seconds(total.core_seconds))} />
        <Figure label={say.energy} value={energy(total.joules)} about={energyMethod(total)} />
        <Figure label={say.time} value={seconds(total.seconds)} about={say.n_runs(list.data.length)} />
        <Figure
          label={say.tokens}
          value={count(total.tokens_trained + total.tokens_generated)}
          about={say.tokens_words(count(total.tokens_trained), count(total.tokens_generated))}
        />
        <Figure label={say.compute} value={flops(allFlops(total))} />
      </dl>
      {others.length > 0 && (
        <Fold class="spent-otherwise" head={say.others(others.reduce((sum, other) => sum + other.count, 0))}>
          <ul class="others fine">
            {others.map((other) => (
              <li key={other.recipe}>
                <span>
                  {other.recipe} <span class="muted">× {other.count}</span>
                </span>
                <span class="muted">
                  {seconds(other.spent.core_seconds)} · {energy(other.spent.joules)} · {allMoney(other.spent)}
                </span>
              </li>
            ))}
          </ul>
        </Fold>
      )}
    </section>
  );
}

function Cards({ data, chosen, choose }: { data: readonly Head[]; chosen: readonly string[]; choose: (id: string) => void }) {
  return (
    <ul class="run-cards">
      {data.map((run) => (
        <li key={run.id}>
          <a class="card" href={href("runs", run.id)}>
            <span class="run-card-head">
              <b>{run.name}</b>
              <StateBadge state={run.state} stopping={run.stopping} />
            </span>
            <Steps stages={run.stages} />
            <span class="run-card-foot">
              <Spark values={run.accuracies} />
              <Reached run={run} />
              <small>
                {seconds(run.seconds)}
                {run.bill && ` · ${allMoney(run.bill)}`}
              </small>
            </span>
          </a>
          {data.length > 1 && <Pick run={run} chosen={chosen} choose={choose} />}
        </li>
      ))}
    </ul>
  );
}

function Pick({ run, chosen, choose }: { run: Head; chosen: readonly string[]; choose: (id: string) => void }) {
  const is = chosen.includes(run.id);
  return (
    <label class="pick">
      <input
        type="checkbox"
        checked={is}
        disabled={!is && chosen.length >= MOST_COMPARED}
        aria-label={words.value.choose(run.name)}
        onChange={() => choose(run.id)}
      />
    </label>
  );
}

function columns(pick: Column<Head> | null): Column<Head>[] {
  const say = words.value;
  return [
    ...(pick ? [pick] : []),
    {
      head: say.column_run,
      cell: (run) => (
        <span class="run-name">
          <a href={href("runs", run.id)}>{run.name}</a>
          <small>
            {run.problem !== null ? <Icon name="warning" size={12} /> : null}
            {[run.recipe !== run.name ? run.recipe : "", run.task, say.seed_n(run.seed)].filter(Boolean).join(" · ")}
          </small>
        </span>
      ),
      sort: (run) => run.name,
    },
    {
      head: say.column_state,
      cell: (run) => <StateBadge state={run.state} stopping={run.stopping} />,
      sort: (run) => run.state,
    },
    { head: say.column_stages, cell: (run) => <Steps stages={run.stages} /> },
    {
      head: say.column_accuracy,
      cell: (run) => (
        <span class="spark-cell">
          <Spark values={run.accuracies} />
          <Reached run={run} />
        </span>
      ),
      sort: (run) => run.best?.pass_at_1 ?? run.accuracy ?? -1,
    },
    { head: say.column_time, cell: (run) => seconds(run.seconds), as: "number", sort: (run) => run.seconds },
    {
      head: say.column_cost,
      cell: (run) => (run.bill ? allMoney(run.bill) : <span title={say.no_bill}>–</span>),
      as: "number",
      sort: (run) => Object.values(run.bill?.money ?? {}).reduce((sum, amount) => sum + amount, 0),
    },
    {
      head: say.column_started,
      cell: (run) => (run.started_at === null ? "–" : ago(run.started_at)),
      as: "number",
      sort: (run) => run.started_at ?? 0,
    },
  ];
}

/** All runs: a table, or cards where there is no room for one. Where there are several, some can be picked to be compared. */
function All({ data, chosen, choose }: { data: readonly Head[]; chosen: readonly string[]; choose: (id: string) => void }) {
  const say = words.value;
  const pick: Column<Head> = { head: say.compare, cell: (run) => <Pick run={run} chosen={chosen} choose={choose} /> };
  return (
    <>
      <div class="only-roomy">
        <Table
          label={say.title}
          rows={data}
          columns={columns(data.length > 1 ? pick : null)}
          id={(run) => run.id}
          onOpen={(run) => go("runs", run.id)}
        />
      </div>
      <div class="only-tight">
        <Cards data={data} chosen={chosen} choose={choose} />
      </div>
    </>
  );
}

function Nothing() {
  const say = words.value;
  const command = (
    <span class="command">
      <code>{COMMAND}</code>
      <CopyButton text={() => COMMAND} label={say.copy} done={say.copied} />
    </span>
  );
  return (
    <Empty icon="chart" title={say.none} actions={command}>
      {say.none_words}
    </Empty>
  );
}

export function Overview() {
  const { list, isFailed, again } = useList();
  const [picked, setPicked] = useState<readonly string[]>([]);
  const say = words.value;
  const data = list?.data ?? [];
  // Of those that are still there.
  const chosen = picked.filter((id) => data.some((run) => run.id === id));
  const choose = (id: string): void => setPicked(chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id]);
  return (
    <>
      <ViewHead title={say.title}>
        {chosen.length > 1 && (
          <Button kind="primary" icon="compare" onClick={() => go("runs", chosen.join(","))}>
            {say.compare_n(chosen.length)}
          </Button>
        )}
      </ViewHead>
      <div class="view-page">
        <div class="inside stack">
          {isFailed && (
            <Note tone="bad" actions={<Button onClick={again}>{say.again}</Button>}>
              {say.failed}
            </Note>
          )}
          {list === null && !isFailed && <Loading label={say.loading} />}
          {list !== null && data.length === 0 && <Nothing />}
          {data
            .filter((run) => run.state === "running")
            .slice(0, MOST_NOW)
            .map((run) => (
              <Now key={run.id} run={run} />
            ))}
          {data.length > 0 && <All data={data} chosen={chosen} choose={choose} />}
          {list !== null && <Everything list={list} />}
        </div>
      </div>
    </>
  );
}
