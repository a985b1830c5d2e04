// The same question, checkpoint after checkpoint: bars as tall as the thinking is long, and under them
// what was thought and answered where one stands.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Button, Choice, Empty, rove, Select } from "../ui/index";
import type { RunData } from "./data";
import { followed, learned, type Row } from "./rows";
import { said } from "./said";
import { Answer, Thought, Verdict, verdict } from "./thought";
import { words } from "./words";

const PACE = 1400;
/** More than these are chosen from a list. */
const MOST_BESIDE = 6;

type Source = "asked" | "taught";

export function Grow({ data, checks }: { data: RunData; checks: readonly string[] }) {
  const say = words.value;
  const version = data.version.value;
  const asked = useMemo(() => followed(data.samples), [data, version]);
  const taught = useMemo(() => learned(data.samples), [data, version]);
  const [wanted, want] = useState<Source | null>(null);
  const [chosen, choose] = useState("");
  // A run that is under way has no evaluation yet, but samples of what it learns.
  const source = wanted ?? (asked.length > 0 ? "asked" : "taught");
  const rows = source === "asked" ? asked : taught;
  const row = rows.find(({ name }) => name === chosen) ?? rows[0];
  const lengths = useMemo(() => row?.answers.map(({ sample }) => said(sample.text).words) ?? [], [row]);
  // Where nobody chose: the first that thinks longest, or the newest, so that there is something to see.
  const usual = source === "asked" ? lengths.indexOf(Math.max(...lengths)) : lengths.length - 1;
  const { at, goTo, plays, play } = useWalk(lengths.length, usual);
  if (!row) return <Empty icon="thought" title={say.grow_title}>{say.grow_none}</Empty>;
  const change = (deed: () => void): void => {
    deed();
    goTo(null);
  };
  const here = row.answers[at];
  return (
    <section class="card panel">
      <header>
        <div>
          <h2>{source === "asked" ? say.grow_title : say.learn_title}</h2>
          <p class="muted fine">{source === "asked" ? say.grow_words : say.learn_words}</p>
        </div>
        <Button icon={plays ? "pause" : "play"} onClick={play}>
          {plays ? say.pause : say.play}
        </Button>
      </header>
      <div class="grow-question">
        {asked.length > 0 && taught.length > 0 && (
          <Choice
            label={say.samples}
            value={source}
            options={[
              ["asked", say.by_checkpoint],
              ["taught", say.by_training],
            ]}
            onChange={(source) => change(() => want(source))}
          />
        )}
        <RowChoice rows={rows} row={row} source={source} onChange={(name) => change(() => choose(name))} />
        <p class="asked">{here?.sample.question}</p>
      </div>
      <Bars row={row} lengths={lengths} at={at} isMany={source === "taught"} goTo={goTo} />
      {here && <Said answer={here} checks={checks} isQuiet={plays} />}
    </section>
  );
}

/** The place where one stands, which can go on by itself to the end. Where none was chosen it is the usual one. */
function useWalk(n: number, usual: number) {
  const [chosen, setChosen] = useState<number | null>(null);
  const [plays, setPlays] = useState(false);
  const at = Math.max(0, Math.min(chosen ?? usual, n - 1));
  useEffect(() => {
    if (!plays) return undefined;
    const timer = setTimeout(() => (at + 1 < n ? setChosen(at + 1) : setPlays(false)), PACE);
    return () => clearTimeout(timer);
  }, [plays, at, n]);
  const goTo = (place: number | null): void => {
    setPlays(false);
    setChosen(place);
  };
  const play = (): void => {
    if (!plays) setChosen(0);
    setPlays(!plays);
  };
  return { at, goTo, plays, play };
}

/** Which question, or what was learnt in which stage. */
function RowChoice({ rows, row, source, onChange }: { rows: readonly Row[]; row: Row; source: Source; onChange: (name: string) => void }) {
  const say = words.value;
  if (rows.length < 2) return null;
  const isAsked = source === "asked";
  const label = isAsked ? say.question : say.stage;
  if (rows.length > MOST_BESIDE)
    return <Select label={label} value={row.name} options={rows.map(({ name }) => [name, name] as const)} onChange={onChange} />;
  const options = rows.map(({ name }, at) => [name, isAsked ? String(at + 1) : name] as const);
  return <Choice label={label} value={row.name} options={options} onChange={onChange} />;
}

function Bars({ row, lengths, at, isMany, goTo }: { row: Row; lengths: readonly number[]; at: number; isMany: boolean; goTo: (place: number) => void }) {
  const longest = Math.max(1, ...lengths);
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // Where bars are wider than the window, the one that is looked at stays in the middle.
    const [own, bar] = [list.current, list.current?.children[at]];
    if (own && bar instanceof HTMLElement) own.scrollLeft = bar.offsetLeft - (own.clientWidth - bar.offsetWidth) / 2;
  }, [at]);
  const move = (event: KeyboardEvent): void => rove(event, [...row.answers.keys()], at, goTo);
  return (
    <div ref={list} class={isMany ? "grow-bars many" : "grow-bars"} role="radiogroup" aria-label={words.value.checkpoint} onKeyDown={move}>
      {row.answers.map(({ label, sample: { right } }, place) => {
        const length = lengths[place] ?? 0;
        return (
          <button
            key={place}
            type="button"
            role="radio"
            aria-checked={place === at}
            tabIndex={place === at ? 0 : -1}
            class={right === false ? "wrong" : undefined}
            onClick={() => goTo(place)}
          >
            <span class="grow-bar" aria-hidden="true">
              <i style={{ height: `${Math.max(2, (100 * length) / longest)}%` }} />
            </span>
            <span class="grow-count">{length}</span>
            <span class="grow-name">{label}</span>
            <span class="hidden-text">
              {words.value.n_words(length)}, {verdict(right)}
            </span>
          </button>
        );
      })}
    </div>
  );
}

function Said({ answer: { label, sample }, checks, isQuiet }: { answer: Row["answers"][number]; checks: readonly string[]; isQuiet: boolean }) {
  const say = words.value;
  const { thought, words: length } = said(sample.text);
  return (
    <div class="grow-said" aria-live={isQuiet ? "off" : "polite"}>
      <p class="grow-head">
        <strong>{sample.checkpoint ?? `${sample.stage}, ${say.at_step(label)}`}</strong>
        <Verdict right={sample.right} />
        <span class="muted">{say.n_words(length)}</span>
      </p>
      {thought === null || length === 0 ? <p class="muted">{say.no_thought}</p> : <Thought text={thought} checks={checks} />}
      <p class="grow-answer">
        <span class="muted">{say.answer}</span>
        <Answer text={sample.text} />
      </p>
    </div>
  );
}
