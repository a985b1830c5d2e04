// One model: where it came from, how fast it is here, what it is, what it cost, what its makers say.

import { useEffect, useState } from "preact/hooks";
import { RailButton } from "../app/shell";
import { go, href } from "../app/route";
import { session } from "../app/state";
import { ApiError, isAborted } from "../api/http";
import { forecastOf, loadModel, type Model, oneModel, removeModel, unloadModel, verifyModel } from "../api/models";
import { bytes, count, date, energy, flops, money, number, percent, seconds } from "../i18n/format";
import { Markdown } from "../text/markdown";
import { Button, confirm, CopyButton, Empty, type Entry, Icon, LinkButton, Menu, say as tell } from "../ui/index";
import { findJobs, jobs, watchJob } from "./jobs";
import { Jobs } from "./jobs_strip";
import { Line } from "./line";
import { methodIn } from "./methods";
import { Name, reason, speed, State } from "./parts";
import { words } from "./words";

export function One({ name }: { name: string }) {
  const say = words.value;
  const [model, setModel] = useState<Model | null>(null);
  const [fault, setFault] = useState<unknown>(null);
  const manages = session.value?.may_manage ?? false;
  const refresh = async (signal?: AbortSignal): Promise<void> => {
    try {
      setModel(await oneModel(name, signal));
      setFault(null);
    } catch (error) {
      if (!isAborted(error)) setFault(error);
    }
  };
  useEffect(() => {
    const control = new AbortController();
    void refresh(control.signal);
    return () => control.abort();
  }, [name]);
  useEffect(() => {
    if (manages) void findJobs().catch(() => undefined);
  }, [manages]);
  return (
    <>
      <header class="view-head">
        <RailButton />
        <a class="button quiet bare" href={href("models")} aria-label={say.back} title={say.back}>
          <Icon name="chevron_left" />
        </a>
        <h1 class="truncate" title={name}>
          <Name name={name} />
        </h1>
        {model !== null && <State model={model} />}
        <span class="head-gap" />
        {model !== null && <Deeds model={model} manages={manages} changed={refresh} />}
      </header>
      <div class="view-page models">
        <div class="inside">
          {manages && <Jobs />}
          {fault !== null && <Fault fault={fault} again={() => void refresh()} />}
          {model !== null && fault === null && (
            <div class="sheets">
              <Descent model={model} />
              <div class="stack">
                <Speed model={model} changed={refresh} />
                <CostSheet model={model} />
              </div>
              <About model={model} />
              <Card model={model} />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

function Fault({ fault, again }: { fault: unknown; again: () => void }) {
  const say = words.value;
  const isGone = fault instanceof ApiError && fault.status === 404;
  return (
    <Empty
      icon="cube"
      title={isGone ? say.gone : say.failed}
      actions={
        <>
          <LinkButton href={href("models")}>{say.back}</LinkButton>
          {!isGone && <Button onClick={again}>{say.again}</Button>}
        </>
      }
    >
      {isGone ? say.gone_about : reason(fault, "")}
    </Empty>
  );
}

/** What those who may can do with it. */
function Deeds({ model, manages, changed }: { model: Model; manages: boolean; changed: () => Promise<void> }) {
  const say = words.value;
  const { name, loaded, served, stored } = model;
  const [isBusy, setBusy] = useState(false);
  const isChecked = jobs.value.some((job) => job.name === name && (job.state === "running" || job.state === "waiting"));
  const act = async (deed: () => Promise<unknown>, done: string): Promise<void> => {
    setBusy(true);
    try {
      await deed();
      if (done !== "") tell(done, "good");
      await changed();
    } catch (error) {
      tell(reason(error, say.failed), "bad");
    } finally {
      setBusy(false);
    }
  };
  const remove = async (): Promise<void> => {
    const answer = await confirm({
      title: say.remove_title(name),
      words: say.remove_words(bytes(model.bytes)),
      yes: say.remove,
      no: say.cancel,
      isDanger: true,
    });
    if (!answer) return;
    try {
      await removeModel(name);
      tell(say.removed(name), "good");
      go("models");
    } catch (error) {
      tell(reason(error, say.failed), "bad");
    }
  };
  const verify = async (): Promise<void> => {
    watchJob(await verifyModel(name), "verify", name);
  };
  if (!manages) return served ? <ChatButton name={name} /> : null;
  const entries: Entry[] = [
    { label: say.verify, icon: "shield", disabled: isChecked, run: () => void act(verify, "") },
    null,
    {
      label: say.remove,
      about: loaded ? say.unload_first : undefined,
      icon: "trash",
      kind: "danger",
      disabled: loaded || isChecked,
      run: () => void remove(),
    },
  ];
  return (
    <>
      {served && <ChatButton name={name} />}
      {served && !loaded && (
        <Button kind="primary" icon={isBusy ? "spinner" : "bolt"} disabled={isBusy} onClick={() => void act(() => loadModel(name), say.is_loaded(name))}>
          {isBusy ? say.loading : say.load}
        </Button>
      )}
      {loaded && (
        <Button disabled={isBusy} onClick={() => void act(() => unloadModel(name), say.is_unloaded(name))}>
          {say.unload}
        </Button>
      )}
      {stored && <Menu label={say.more} icon="more" side="end" entries={entries} />}
    </>
  );
}

/** Begins a chat with this model. */
function ChatButton({ name }: { name: string }) {
  const start = async (): Promise<void> => {
    const { startWith } = await import("../chat/state");
    startWith(name);
  };
  return (
    <Button icon="chat" onClick={() => void start()}>
      {words.value.chat}
    </Button>
  );
}

function Descent({ model }: { model: Model }) {
  const say = words.value;
  // Alone it is no line.
  if (model.lineage.length < 2) return null;
  return (
    <section class="sheet wide">
      <h2>{say.descent}</h2>
      <Line lineage={model.lineage} />
    </section>
  );
}

function Speed({ model, changed }: { model: Model; changed: () => Promise<void> }) {
  const say = words.value;
  const { forecast, measured } = model;
  const [isBusy, setBusy] = useState(false);
  const most = Math.max(forecast?.tokens_per_second ?? 0, measured?.tokens_per_second ?? 0);
  const make = async (): Promise<void> => {
    setBusy(true);
    try {
      await forecastOf(model.name);
      await changed();
    } catch (error) {
      tell(reason(error, say.failed), "bad");
    } finally {
      setBusy(false);
    }
  };
  return (
    <section class="sheet">
      <h2>{say.speed}</h2>
      <div class="bars">
        <Bar label={say.forecast} value={forecast?.tokens_per_second ?? null} most={most} look="expected">
          {forecast === null && (
            <>
              <Button small disabled={isBusy} icon={isBusy ? "spinner" : undefined} onClick={() => void make()}>
                {isBusy ? say.forecasting : say.make_forecast}
              </Button>
              {!isBusy && <p class="fine muted">{say.forecast_about}</p>}
            </>
          )}
        </Bar>
        <Bar label={say.measured} value={measured?.tokens_per_second ?? null} most={most} look="seen">
          <p class="fine muted">
            {measured === null
              ? say.not_measured
              : [say.since, forecast && say.apart(percent(measured.tokens_per_second / forecast.tokens_per_second))]
                  .filter((part) => part !== null)
                  .join(" · ")}
          </p>
        </Bar>
      </div>
      {forecast !== null && (
        <dl class="facts-list">
          <Fact label={say.prompts}>{say.per_second(speed(forecast.prompt_tokens_per_second))}</Fact>
          <Fact label={say.memory} hint={say.memory_about}>
            {bytes(forecast.memory_bytes)}
          </Fact>
        </dl>
      )}
    </section>
  );
}

function Bar({ label, value, most, look, children }: { label: string; value: number | null; most: number; look: string; children?: preact.ComponentChildren }) {
  return (
    <div class={`bar ${look}`}>
      <div class="bar-head">
        <span>{label}</span>
        {value !== null && <b>{words.value.per_second(speed(value))}</b>}
      </div>
      {value !== null && (
        <svg class="bar-track" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
          <rect class="ground" width={100} height={8} />
          <rect class="level" width={most > 0 ? (100 * value) / most : 0} height={8} />
        </svg>
      )}
      {children}
    </div>
  );
}

function Fact({ label, hint, children }: { label: string; hint?: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>
        {label}
        {hint !== undefined && <small>{hint}</small>}
      </dt>
      <dd>{children}</dd>
    </div>
  );
}

/** An address of a hub is a link that a person may follow; the page itself asks it for nothing. */
function Origin({ text }: { text: string }) {
  if (!/^https?:\/\//.test(text)) return <span class="mono">{text}</span>;
  return (
    <a href={text} target="_blank" rel="noopener noreferrer">
      {text.replace(/^https?:\/\//, "")}
    </a>
  );
}

function About({ model }: { model: Model }) {
  const say = words.value;
  const { parameters, active_parameters: active, revision } = model;
  const isSparse = active !== null && parameters !== null && active < parameters;
  const rows: [string, preact.ComponentChildren][] = [
    [say.architecture, model.architecture],
    [say.n_parameters, parameters !== null && count(parameters)],
    [say.n_active, isSparse && count(active)],
    [say.stored_as, model.quantization],
    [say.size_files, bytes(model.bytes)],
    [say.context, model.context !== null && say.tokens(number(model.context))],
    [say.method, methodIn(model.method)],
    [say.base, model.base_models.join(", ")],
    [say.licence, model.licence ?? say.not_said],
    [say.origin, model.origin !== null && <Origin text={model.origin} />],
    [
      say.revision,
      revision !== null && (
        <span class="with-copy">
          <span class="mono">{revision.slice(0, 10)}</span>
          <CopyButton text={() => revision} label={say.revision} done={say.revision} />
        </span>
      ),
    ],
    [say.added, model.created_at > 0 && date(model.created_at, { dateStyle: "medium" })],
  ];
  return (
    <section class="sheet">
      <h2>{say.about}</h2>
      <dl class="facts-list">
        {rows.map(([label, value]) => value !== null && value !== false && value !== "" && <Fact key={label} label={label}>{value}</Fact>)}
      </dl>
    </section>
  );
}

function CostSheet({ model }: { model: Model }) {
  const say = words.value;
  const { cost } = model;
  if (cost === null) return null;
  return (
    <section class="sheet">
      <h2>{say.cost}</h2>
      <p class="fine muted">{say.cost_about}</p>
      <dl class="figures">
        {cost.money !== null && cost.money > 0 && <Fact label={say.money}>{money(cost.money, cost.currency ?? "")}</Fact>}
        <Fact label={say.energy}>{energy(cost.joules)}</Fact>
        <Fact label={say.core_time}>{seconds(cost.core_seconds)}</Fact>
        <Fact label={say.compute}>{flops(cost.flops)}</Fact>
      </dl>
    </section>
  );
}

function Card({ model }: { model: Model }) {
  const say = words.value;
  return (
    <section class="sheet wide">
      <h2>{say.card}</h2>
      {model.card === null ? (
        <p class="muted">{say.no_card}</p>
      ) : (
        <div class="card-text">
          <Markdown source={model.card.text} />
        </div>
      )}
    </section>
  );
}
