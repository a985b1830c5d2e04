// What is known of a model, a sheet for each question.

import type { ComponentChildren } from "preact";
import { forecastOf, type Model } from "../api/models";
import { bytes, count, date, energy, flops, money, number, percent, seconds } from "../i18n/format";
import { Markdown } from "../text/markdown";
import { Button, CopyButton, Figure } from "../ui/index";
import { useDeed } from "./deeds";
import { Line } from "./line";
import { methodIn } from "./methods";
import { speed } from "./parts";
import { words } from "./words";

export function Descent({ model }: { model: Model }) {
  const say = words.value;
  // Alone it is no line.
  if (model.lineage.length < 2) return null;
  return (
    <section class="card sheet wide">
      <h2>{say.descent}</h2>
      <Line lineage={model.lineage} />
    </section>
  );
}

export function Speed({ model, changed }: { model: Model; changed: () => Promise<void> }) {
  const say = words.value;
  const { forecast, measured } = model;
  const { isBusy, act } = useDeed(changed);
  const most = Math.max(forecast?.tokens_per_second ?? 0, measured?.tokens_per_second ?? 0);
  return (
    <section class="card sheet">
      <h2>{say.speed}</h2>
      <div class="bars">
        <Bar label={say.forecast} value={forecast?.tokens_per_second ?? null} most={most} look="expected">
          {forecast === null && (
            <>
              <Button small disabled={isBusy} icon={isBusy ? "spinner" : undefined} onClick={() => void act(() => forecastOf(model.name))}>
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

function Bar({ label, value, most, look, children }: { label: string; value: number | null; most: number; look: string; children?: ComponentChildren }) {
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

function Fact({ label, hint, children }: { label: string; hint?: string; children: ComponentChildren }) {
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

export function About({ model }: { model: Model }) {
  const say = words.value;
  const { parameters, active_parameters: active, revision } = model;
  const isSparse = active !== null && parameters !== null && active < parameters;
  const rows: [string, ComponentChildren][] = [
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
    <section class="card sheet">
      <h2>{say.about}</h2>
      <dl class="facts-list">
        {rows.map(([label, value]) => value !== null && value !== false && value !== "" && <Fact key={label} label={label}>{value}</Fact>)}
      </dl>
    </section>
  );
}

export function CostSheet({ model }: { model: Model }) {
  const say = words.value;
  const { cost } = model;
  if (cost === null) return null;
  return (
    <section class="card sheet">
      <h2>{say.cost}</h2>
      <p class="fine muted">{say.cost_about}</p>
      <dl class="figures">
        {cost.money !== null && cost.money > 0 && <Figure label={say.money} value={money(cost.money, cost.currency ?? "")} />}
        <Figure label={say.energy} value={energy(cost.joules)} />
        <Figure label={say.core_time} value={seconds(cost.core_seconds)} />
        <Figure label={say.compute} value={flops(cost.flops)} />
      </dl>
    </section>
  );
}

export function Card({ model }: { model: Model }) {
  const say = words.value;
  return (
    <section class="card sheet wide">
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
