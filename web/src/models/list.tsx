// All models: searched, filtered, and a way to fetch more.

import { useEffect, useState } from "preact/hooks";
import { href } from "../app/route";
import { session } from "../app/state";
import { ViewHead } from "../app/view_head";
import type { Model } from "../api/models";
import { bytes, count } from "../i18n/format";
import { Button, Empty, IconButton, Loading, Note, SearchField } from "../ui/index";
import { all, fault, filter, type Filter, isFiltered, licences, methods, NO_FILTER, NONE, refreshModels, shown, SIZES } from "./catalogue";
import { findJobs } from "./jobs";
import { Jobs } from "./jobs_strip";
import { methodIn } from "./methods";
import { MethodMark, Name, reason, speed, State } from "./parts";
import { PullDialog } from "./pull";
import { words } from "./words";

export function List() {
  const say = words.value;
  const [isPulling, setPulling] = useState(false);
  const manages = session.value?.may_manage ?? false;
  useEffect(() => {
    const control = new AbortController();
    void refreshModels(control.signal);
    return () => control.abort();
  }, []);
  useEffect(() => {
    if (manages) void findJobs().catch(() => undefined);
  }, [manages]);
  const found = shown.value;
  return (
    <>
      <ViewHead title={say.models}>
        <IconButton icon="refresh" label={say.refresh} onClick={() => void refreshModels()} />
        {manages && (
          <Button kind="primary" icon="download" onClick={() => setPulling(true)}>
            {say.fetch}
          </Button>
        )}
      </ViewHead>
      <div class="view-page">
        <div class="inside">
          {manages && <Jobs />}
          {fault.value !== null && (
            <Note tone="bad" title={say.failed} actions={<Button onClick={() => void refreshModels()}>{say.again}</Button>}>
              {reason(fault.value, say.failed)}
            </Note>
          )}
          {all.value === null && fault.value === null && <Loading label={say.loading} />}
          {all.value?.length === 0 && (
            <Empty
              icon="cube"
              title={say.empty}
              actions={manages && <Button kind="primary" icon="download" onClick={() => setPulling(true)}>{say.fetch}</Button>}
            >
              {manages ? say.empty_manage : say.empty_other}
            </Empty>
          )}
          {all.value !== null && all.value.length > 0 && (
            <>
              <Filters />
              <p class="fine muted" role="status">{say.of(found.length, all.value.length)}</p>
              {found.length === 0 ? (
                <Empty icon="search" title={say.nothing} actions={<Button onClick={() => (filter.value = NO_FILTER)}>{say.clear}</Button>}>
                  {say.nothing_about}
                </Empty>
              ) : (
                <ul class="card model-list">
                  {found.map((model) => (
                    <Row key={model.name} model={model} />
                  ))}
                </ul>
              )}
            </>
          )}
        </div>
      </div>
      {isPulling && <PullDialog onClose={() => setPulling(false)} />}
    </>
  );
}

function Filters() {
  const say = words.value;
  const set = (part: Partial<Filter>): void => {
    filter.value = { ...filter.value, ...part };
  };
  const sizes: [string, string][] = [
    ["", say.size],
    ...SIZES.map((size): [string, string] => [`<${size}`, say.up_to(bytes(size))]),
    [`>${SIZES[SIZES.length - 1]}`, say.above(bytes(SIZES[SIZES.length - 1] ?? 0))],
  ];
  const ofLicences: [string, string][] = [
    ["", say.licence],
    ...licences.value.map((name): [string, string] => [name, name === NONE ? say.no_licence : name]),
  ];
  const ofMethods: [string, string][] = [
    ["", say.method],
    ...methods.value.map((name): [string, string] => [name, say.methods[name]]),
  ];
  const { text, size, licence, method } = filter.value;
  return (
    <div class="filters">
      <SearchField label={say.search} value={text} onInput={(text) => set({ text })} />
      <OneOf label={say.size} value={size} options={sizes} onChange={(size) => set({ size })} />
      <OneOf label={say.licence} value={licence} options={ofLicences} onChange={(licence) => set({ licence })} />
      <OneOf label={say.method} value={method} options={ofMethods} onChange={(method) => set({ method })} />
      {isFiltered.value && (
        <Button kind="quiet" icon="close" onClick={() => (filter.value = NO_FILTER)}>
          {say.clear}
        </Button>
      )}
    </div>
  );
}

/** A select whose first entry says what it is about. */
function OneOf({ label, value, options, onChange }: { label: string; value: string; options: [string, string][]; onChange: (value: string) => void }) {
  return (
    <select class={value === "" ? "input" : "input chosen"} aria-label={label} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
      {options.map(([name, words]) => (
        <option key={name} value={name}>
          {words}
        </option>
      ))}
    </select>
  );
}

function Row({ model }: { model: Model }) {
  const say = words.value;
  const facts = [
    model.parameters === null ? null : say.parameters(count(model.parameters)),
    model.quantization,
    bytes(model.bytes),
    model.licence,
    methodIn(model.method),
  ];
  const { measured, forecast } = model;
  const known = measured ?? forecast;
  return (
    <li>
      <a class="model-row" href={href("models", model.name)}>
        <MethodMark word={model.method} />
        <span class="what">
          <Name name={model.name} />
          <span class="muted fine">{facts.filter((fact) => fact !== null && fact !== "").join(" · ")}</span>
        </span>
        <span class="how-it-is">
          <State model={model} />
          {known !== null && (
            <span class="pace">
              <b>{say.per_second(speed(known.tokens_per_second))}</b>
              <small>{measured === null ? say.forecast_short : say.measured_short}</small>
            </span>
          )}
        </span>
      </a>
    </li>
  );
}
