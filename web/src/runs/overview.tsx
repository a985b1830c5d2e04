// All runs, newest first, and everything ever spent.

import { useState } from "preact/hooks";
import { RailButton } from "../app/shell";
import { go, href } from "../app/route";
import type { Head, List } from "../api/runs";
import { ago, count, energy, flops, number, percent, seconds } from "../i18n/format";
import { Button, type Column, CopyButton, Empty, Fold, Icon, Meter, Note, Table } from "../ui/index";
import { allFlops, allMoney, energyMethod } from "./bill";
import { MOST_COMPARED } from "./compare";
import { useList } from "./list";
import { Figure, left, Spark, StateBadge } from "./parts";
import { Steps } from "./strip";
import { words } from "./words";

const COMMAND = "frugal run r1-tiny --web";
/** What a run has come to: its best examined checkpoint, else its last look at itself. */
function Reached({ run }: { run: Head }) {
  if (run.best) {
    return (
      <span class="reached">
        {percent(run.best.pass_at_1, 1)}
        <small class="muted">{run.best.checkpoint}</small>
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
    <a class="panel now" href={href("runs", run.id)}>
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
    <section class="panel everything">
      <header>
        <div>
          <h2>{say.everything}</h2>
          <p class="muted">{say.everything_words}</p>
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
        <Fold head={say.others(others.reduce((sum, other) => sum + other.count, 0))}>
          <ul class="others">
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
          <a href={href("runs", run.id)}>
            <span class="run-card-head">
              <b>{run.name}</b>
              <StateBadge state={run.state} stopping={run.stopping} />
            </span>
            <Steps stages={run.stages} />
            <span class="run-card-foot">
              <Spark values={run.accuracies} />
              <span>
                <Reached run={run} />
                <small class="muted">
                  {seconds(run.seconds)}
                  {run.bill && ` · ${allMoney(run.bill)}`}
                </small>
              </span>
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

export function Overview() {
  const { list, isFailed, again } = useList();
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const say = words.value;
  const choose = (id: string): void =>
    setChosen((now) => (now.includes(id) ? now.filter((other) => other !== id) : [...now, id]));
  const data = list?.data ?? [];
  const columns: Column<Head>[] = [
    ...(data.length > 1
      ? [{ head: say.compare, cell: (run: Head) => <Pick run={run} chosen={chosen} choose={choose} /> }]
      : []),
    {
      head: say.column_run,
      cell: (run) => (
        <span class="run-name">
          <a href={href("runs", run.id)}>{run.name}</a>
          <small class="muted">
            {run.problem !== null ? <Icon name="warning" size={12} /> : null}
            {[run.recipe !== run.name ? run.recipe : "", run.task, `${say.seed.toLowerCase()} ${run.seed}`].filter(Boolean).join(" · ")}
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
    { head: say.column_time, cell: (run) => seconds(run.seconds), isNumber: true, sort: (run) => run.seconds },
    {
      head: say.column_cost,
      cell: (run) => (run.bill ? allMoney(run.bill) : <span title={say.no_bill}>–</span>),
      isNumber: true,
      sort: (run) => Object.values(run.bill?.money ?? {}).reduce((sum, amount) => sum + amount, 0),
    },
    {
      head: say.column_started,
      cell: (run) => (run.started_at === null ? "–" : ago(run.started_at)),
      isNumber: true,
      sort: (run) => run.started_at ?? 0,
    },
  ];
  return (
    <>
      <header class="view-head">
        <RailButton />
        <h1>{say.title}</h1>
        {chosen.length > 1 && (
          <Button kind="primary" icon="compare" onClick={() => go("runs", chosen.join(","))}>
            {say.compare_n(chosen.length)}
          </Button>
        )}
      </header>
      <div class="view-page runs">
        <div class="inside stack">
          {isFailed && (
            <Note tone="bad" actions={<Button onClick={again}>{say.again}</Button>}>
              {say.failed}
            </Note>
          )}
          {list === null && !isFailed && (
            <div class="loading" role="status">
              <Icon name="spinner" />
              <span class="hidden-text">{say.loading}</span>
            </div>
          )}
          {list !== null && data.length === 0 && (
            <Empty
              icon="chart"
              title={say.none}
              actions={
                <span class="command">
                  <code>{COMMAND}</code>
                  <CopyButton text={() => COMMAND} label={say.copy} done={say.copied} />
                </span>
              }
            >
              {say.none_words}
            </Empty>
          )}
          {data
            .filter((run) => run.state === "running")
            .slice(0, 3)
            .map((run) => (
              <Now key={run.id} run={run} />
            ))}
          {data.length > 0 && (
            <>
              <div class="only-roomy">
                <Table label={say.title} rows={data} columns={columns} id={(run) => run.id} onOpen={(run) => go("runs", run.id)} />
              </div>
              <div class="only-tight">
                <Cards data={data} chosen={chosen} choose={choose} />
              </div>
            </>
          )}
          {list !== null && <Everything list={list} />}
        </div>
      </div>
    </>
  );
}
