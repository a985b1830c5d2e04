// The same question, checkpoint after checkpoint: bars as tall as the thinking is long, and under them
// what was thought and answered where one stands.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Button, Choice, Empty } from "../ui/index";
import type { RunData } from "./data";
import { followed, learned, type Row } from "./rows";
import { said } from "./said";
import { Answer, Thought, Verdict } from "./thought";
import { words } from "./words";

const PACE = 1400;

export function Grow({ data, checks }: { data: RunData; checks: readonly string[] }) {
  const version = data.version.value;
  const asked = useMemo(() => followed(data.samples), [data, version]);
  const taught = useMemo(() => learned(data.samples), [data, version]);
  const [wanted, want] = useState<"asked" | "taught" | null>(null);
  const [chosen, choose] = useState("");
  // A run that is under way has no evaluation yet, but samples of what it learns.
  const source = wanted ?? (asked.length > 0 ? "asked" : "taught");
  const all = source === "asked" ? asked : taught;
  const [place, setPlace] = useState<number | null>(null);
  const [plays, setPlays] = useState(false);
  const list = useRef<HTMLDivElement>(null);
  const one = all.find((row) => row.name === chosen) ?? all[0];
  const answers = one?.answers ?? [];
  const lengths = answers.map(({ sample }) => said(sample.text).words);
  const longest = Math.max(1, ...lengths);
  // Where nobody chose: the first that thinks longest, or the newest, so that there is something to see.
  const usual = source === "asked" ? lengths.indexOf(longest) : answers.length - 1;
  const at = Math.max(0, Math.min(place ?? usual, answers.length - 1));

  useEffect(() => {
    if (!plays) return undefined;
    const timer = setInterval(() => {
      setPlace((now) => {
        const next = (now ?? -1) + 1;
        if (next >= answers.length) {
          setPlays(false);
          return now;
        }
        return next;
      });
    }, PACE);
    return () => clearInterval(timer);
  }, [plays, answers.length]);

  const play = (): void => {
    if (!plays) setPlace(0);
    setPlays(!plays);
  };

  if (!one) return <Empty icon="thought" title={words.value.grow_title}>{words.value.grow_none}</Empty>;
  const here = answers[at];
  const answer = here?.sample;
  const parts = said(answer?.text ?? "");
  const change = (deed: () => void): void => {
    deed();
    setPlays(false);
    setPlace(null);
  };
  const label = (row: Row, index: number): string => (source === "asked" ? String(index + 1) : row.name);
  const move = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1 }[event.key];
    const next = event.key === "Home" ? 0 : event.key === "End" ? answers.length - 1 : by === undefined ? null : at + by;
    if (next === null) return;
    event.preventDefault();
    setPlays(false);
    setPlace(Math.max(0, Math.min(answers.length - 1, next)));
    requestAnimationFrame(() => list.current?.querySelector<HTMLElement>('[aria-checked="true"]')?.focus());
  };
  return (
    <section class="panel grow">
      <header>
        <div>
          <h2>{source === "asked" ? words.value.grow_title : words.value.learn_title}</h2>
          <p class="muted">{source === "asked" ? words.value.grow_words : words.value.learn_words}</p>
        </div>
        <Button icon={plays ? "pause" : "play"} onClick={play}>
          {plays ? words.value.pause : words.value.play}
        </Button>
      </header>
      <div class="grow-question">
        {asked.length > 0 && taught.length > 0 && (
          <Choice
            label={words.value.samples}
            value={source}
            options={[
              ["asked", words.value.by_checkpoint],
              ["taught", words.value.by_training],
            ]}
            onChange={(source) => change(() => want(source))}
          />
        )}
        {all.length > 1 && (
          <Choice
            label={source === "asked" ? words.value.question : words.value.stage}
            value={one.name}
            options={all.slice(0, 6).map((row, index) => [row.name, label(row, index)] as const)}
            onChange={(name) => change(() => choose(name))}
          />
        )}
        <p class="question">{answer?.question}</p>
      </div>
      <div class={source === "asked" ? "grow-bars" : "grow-bars many"} role="radiogroup" aria-label={words.value.checkpoint} ref={list} onKeyDown={move}>
        {answers.map(({ label, sample: answer }, index) => (
          <button
            key={label}
            type="button"
            role="radio"
            aria-checked={index === at}
            tabIndex={index === at ? 0 : -1}
            class={answer.right === true ? "right" : answer.right === false ? "wrong" : ""}
            onClick={() => {
              setPlays(false);
              setPlace(index);
            }}
          >
            <span class="grow-bar" aria-hidden="true">
              <i style={{ height: `${Math.max(2, (100 * (lengths[index] ?? 0)) / longest)}%` }} />
            </span>
            <span class="grow-count">{lengths[index] ?? 0}</span>
            <span class="grow-name">{label}</span>
            <span class="hidden-text">
              {words.value.n_words(lengths[index] ?? 0)}, {answer.right ? words.value.right : words.value.wrong}
            </span>
          </button>
        ))}
      </div>
      {answer && (
        <div class="grow-said" aria-live={plays ? "off" : "polite"}>
          <p class="grow-head">
            <strong>{answer.checkpoint ?? `${answer.stage}, ${words.value.at_step(here?.label ?? "")}`}</strong>
            <Verdict right={answer.right} />
            <span class="muted">{words.value.n_words(parts.words)}</span>
          </p>
          {parts.thought === null || parts.words === 0 ? (
            <p class="muted">{words.value.no_thought}</p>
          ) : (
            <Thought text={parts.thought} checks={checks} />
          )}
          <p class="grow-answer">
            <span class="muted">{words.value.answer}</span>
            <Answer text={answer.text} />
          </p>
        </div>
      )}
    </section>
  );
}
