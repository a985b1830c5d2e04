// The same question, checkpoint after checkpoint: bars as tall as the thinking is long, and under them
// what was thought and answered where one stands.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Button, Choice, Empty } from "../ui/index";
import type { RunData, Sample } from "./data";
import { said } from "./said";
import { Answer, Thought, Verdict } from "./thought";
import { words } from "./words";

const PACE = 1400;

type Followed = { question: string; answers: Sample[] };

/** Questions that were put to every checkpoint, with the last answer of each. */
export function followed(samples: readonly Sample[]): Followed[] {
  const all = new Map<string, Map<string, Sample>>();
  for (const sample of samples) {
    if (sample.checkpoint === null) continue;
    let answers = all.get(sample.question);
    if (!answers) all.set(sample.question, (answers = new Map()));
    answers.set(sample.checkpoint, sample);
  }
  return [...all].map(([question, answers]) => ({ question, answers: [...answers.values()] }));
}

export function Grow({ data, checks }: { data: RunData; checks: readonly string[] }) {
  const version = data.version.value;
  const all = useMemo(() => followed(data.samples), [data, version]);
  const [chosen, choose] = useState("");
  const [place, setPlace] = useState<number | null>(null);
  const [plays, setPlays] = useState(false);
  const list = useRef<HTMLDivElement>(null);
  const one = all.find((followed) => followed.question === chosen) ?? all[0];
  const answers = one?.answers ?? [];
  const lengths = answers.map((answer) => said(answer.text).words);
  const longest = Math.max(1, ...lengths);
  // Where nobody chose: the first that thinks longest, so that there is something to see.
  const at = Math.min(place ?? lengths.indexOf(longest), answers.length - 1);

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
  const answer = answers[Math.max(0, at)];
  const parts = said(answer?.text ?? "");
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
          <h2>{words.value.grow_title}</h2>
          <p class="muted">{words.value.grow_words}</p>
        </div>
        <Button icon={plays ? "pause" : "play"} onClick={play}>
          {plays ? words.value.pause : words.value.play}
        </Button>
      </header>
      <div class="grow-question">
        {all.length > 1 && (
          <Choice
            label={words.value.question}
            value={one.question}
            options={all.slice(0, 6).map((followed, index) => [followed.question, String(index + 1)] as const)}
            onChange={choose}
          />
        )}
        <p class="question">{one.question}</p>
      </div>
      <div class="grow-bars" role="radiogroup" aria-label={words.value.checkpoint} ref={list} onKeyDown={move}>
        {answers.map((answer, index) => (
          <button
            key={answer.checkpoint}
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
            <span class="grow-name">{answer.checkpoint}</span>
            <span class="hidden-text">
              {words.value.n_words(lengths[index] ?? 0)}, {answer.right ? words.value.right : words.value.wrong}
            </span>
          </button>
        ))}
      </div>
      {answer && (
        <div class="grow-said" aria-live={plays ? "off" : "polite"}>
          <p class="grow-head">
            <strong>{answer.checkpoint}</strong>
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
