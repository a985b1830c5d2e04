// The stages of a run in their order: how far each is, how long it took; one can be chosen.

import { useEffect, useRef } from "preact/hooks";
import { number, seconds } from "../i18n/format";
import type { Stage } from "../api/runs";
import { left } from "./parts";
import { words } from "./words";

/** Of its steps, how many were made. */
const share = (stage: Stage): number => (stage.of > 0 ? Math.min(1, stage.steps / stage.of) : stage.state === "done" ? 1 : 0);

/** A small one, for lists: a bar of steps, each as wide as it is long. */
export function Steps({ stages }: { stages: readonly Stage[] }) {
  const done = stages.filter((stage) => stage.state === "done").length;
  return (
    <span class="steps" role="img" aria-label={words.value.stages_done(done, stages.length)}>
      {stages.map((stage) => (
        <i key={stage.name} data-state={stage.state} title={`${stage.name}: ${words.value.state[stage.state] ?? ""}`}>
          {stage.state !== "done" && stage.state !== "waiting" && <b style={{ width: `${100 * share(stage)}%` }} />}
        </i>
      ))}
    </span>
  );
}

/** The large one: choosing a stage shows it alone. */
export function StageStrip({
  stages,
  steps,
  chosen,
  onChoose,
}: {
  stages: readonly Stage[];
  /** Steps of a stage as far as heard. */
  steps: (stage: Stage) => number;
  chosen: string | null;
  onChoose: (stage: string | null) => void;
}) {
  const list = useRef<HTMLOListElement>(null);
  const running = stages.find((stage) => stage.state === "running")?.name;
  useEffect(() => {
    // On a phone the strip is wider than the window: what runs is what one wants to see.
    const own = list.current?.querySelector<HTMLElement>('[data-state="running"]');
    if (own && list.current) list.current.scrollLeft = own.offsetLeft - 140;
  }, [running]);
  const button = (name: string | null, inside: preact.ComponentChildren) => (
    <button type="button" aria-pressed={chosen === name} onClick={() => onChoose(chosen === name ? null : name)}>
      {inside}
    </button>
  );
  return (
    <ol class="strip" ref={list} aria-label={words.value.stages}>
      <li class="strip-all">{button(null, <span class="strip-name">{words.value.whole_run}</span>)}</li>
      {stages.map((stage) => {
        const done = steps(stage);
        const of = stage.state === "done" ? Math.max(done, 1) : Math.max(stage.of, done);
        const rest = left(stage, done);
        return (
          <li key={stage.name} data-state={stage.state}>
            {button(
              stage.name,
              <>
                <span class="strip-name">
                  {stage.name}
                  {stage.control && <small> {words.value.control}</small>}
                </span>
                <span class="strip-kind">{words.value.kind[stage.kind] ?? stage.kind}</span>
                <span class="strip-bar" aria-hidden="true">
                  <i style={{ width: `${of > 0 ? Math.min(100, (100 * done) / of) : 0}%` }} />
                </span>
                <span class="strip-cost">
                  {stage.state === "waiting"
                    ? words.value.state["waiting"]
                    : stage.state === "done"
                      ? seconds(stage.seconds)
                      : `${number(done)} / ${number(of)}`}
                  {rest !== null && ` · ${seconds(rest)}`}
                </span>
              </>,
            )}
          </li>
        );
      })}
    </ol>
  );
}
