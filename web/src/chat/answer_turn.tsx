// A model's answer: its thought, its text, what went wrong with it, what it took, what can be done with it.

import type { ComponentChildren } from "preact";
import { go } from "../app/route";
import { refreshSession } from "../app/state";
import { seconds } from "../i18n/format";
import { Markdown } from "../text/markdown";
import { memo } from "../text/memo";
import { SoonMarkdown } from "../text/soon";
import { Button, CopyButton, type Entry, Menu, Note } from "../ui/index";
import { again, choose, goOn, retry } from "./acts";
import { useSeconds } from "./clock";
import type { Conversation, Live } from "./conversation";
import { explain, type Remedy } from "./explain";
import { Receipt, settingsIn, Verdict } from "./receipt";
import { isSettingsOpen } from "./sheets";
import { models } from "./served";
import { startNew } from "./state";
import { DoneThought, LiveThought } from "./thought";
import type { Turn } from "./tree";
import { changed } from "./settings";
import { Versions } from "./versions";
import { words } from "./words";

type Properties = {
  conversation: Conversation;
  turn: Turn;
  live: Live | null;
  fault: unknown;
  /** Of how many versions this is which. */
  place: { at: number; of: number; before: Turn | null; after: Turn | null };
  /** One of two that are compared: whether it is the one that is gone on with. */
  compared: "no" | "preferred" | "other";
  isLast: boolean;
  /** In view when the conversation opens. */
  isNear: boolean;
};

export const AnswerTurn = memo(
  function AnswerTurn(properties: Properties) {
    const { turn, live, compared } = properties;
    const say = words.value;
    return (
      <article class={`turn answer${compared === "other" ? " other" : ""}`} aria-label={say.answer_of(turn.model ?? "")} data-turn={turn.id}>
        <h2 class="hidden-text">{say.answer_of(turn.model ?? "")}</h2>
        {compared !== "no" && <ComparedHead {...properties} />}
        {live ? <Writing live={live} turn={turn} /> : <Written {...properties} />}
      </article>
    );
  },
  (old, now) =>
    old.turn === now.turn &&
    old.live === now.live &&
    old.fault === now.fault &&
    old.compared === now.compared &&
    old.isLast === now.isLast &&
    old.conversation === now.conversation &&
    old.place.at === now.place.at &&
    old.place.of === now.place.of,
);

function ComparedHead({ conversation, turn, compared }: Properties) {
  const say = words.value;
  const settings = turn.settings && changed(turn.settings) > 0 ? settingsIn(turn.settings) : say.usual_settings;
  return (
    <header class="compared-head">
      <div class="truncate">
        <strong class="mono">
          <bdi>{turn.model}</bdi>
        </strong>
        <small class="truncate">{settings}</small>
      </div>
      {compared === "other" && turn.finish !== null && (
        <Button small onClick={() => choose(conversation, turn)}>
          {say.prefer}
        </Button>
      )}
    </header>
  );
}

function Writing({ live, turn }: { live: Live; turn: Turn }) {
  const text = live.content.value;
  return (
    <>
      {live.phase.value === "waiting" && <Waiting live={live} turn={turn} />}
      <LiveThought live={live} turn={turn} />
      {text !== "" && (
        <div class="growing">
          <Markdown source={text} isGrowing />
        </div>
      )}
    </>
  );
}

/** Before the first token: the prompt is read, or several answers are drawn behind the scenes. */
function Waiting({ live, turn }: { live: Live; turn: Turn }) {
  const say = words.value;
  const since = useSeconds(live.startedAt, true);
  const verify = turn.settings?.verify;
  return (
    <p class="waiting">
      <span class="pulse" aria-hidden="true" />
      {verify ? say.drawing(verify.samples) : say.reading}
      {since >= 2 && <span class="muted">{seconds(since)}</span>}
    </p>
  );
}

function Written(properties: Properties) {
  const { turn, fault, isNear } = properties;
  const isEmpty = turn.content === "" && !turn.reasoning;
  return (
    <>
      <DoneThought turn={turn} />
      {turn.content !== "" && <SoonMarkdown source={turn.content} isNear={isNear} />}
      {isEmpty && turn.finish === "stop" && <p class="muted">{words.value.empty_answer}</p>}
      <Verdict turn={turn} />
      {fault ? <Fault {...properties} /> : <Ended {...properties} />}
      <Foot {...properties} />
    </>
  );
}

/** What is to be said of an answer that did not end by itself. */
function Ended({ conversation, turn }: Properties) {
  const say = words.value.ended;
  const hasText = turn.content !== "" || !!turn.reasoning;
  const resume = (
    <Button small icon="play" onClick={() => (hasText ? goOn(conversation, turn) : retry(conversation, turn))}>
      {hasText ? say.go_on : say.again}
    </Button>
  );
  const answerNow = turn.content === "" && turn.reasoning && (
    <Button small icon="skip" onClick={() => goOn(conversation, turn, "without more thought")}>
      {words.value.answer_now}
    </Button>
  );
  const actions = (
    <>
      {resume}
      {answerNow}
    </>
  );
  if (turn.finish === "stopped")
    return (
      <p class="ended">
        <span>{say.stopped}</span>
        {actions}
      </p>
    );
  if (turn.finish === "length")
    return (
      <p class="ended">
        <span>{say.length}</span>
        {actions}
      </p>
    );
  // Null and not live: the page was closed while it was written.
  if (turn.finish === "lost" || turn.finish === "failed" || turn.finish === null)
    return (
      <Note tone="warn" title={hasText ? say.lost : say.nothing} actions={actions}>
        {hasText ? say.lost_about : undefined}
      </Note>
    );
  return null;
}

function Fault({ conversation, turn, fault }: Properties) {
  const say = words.value;
  const hasText = turn.content !== "" || !!turn.reasoning;
  const { title, about, remedies } = explain(fault, hasText);
  const buttons: Record<Remedy, () => ComponentChildren> = {
    again: () => (
      <Button small icon="refresh" onClick={() => retry(conversation, turn)}>
        {say.ended.again}
      </Button>
    ),
    continue: () => (
      <Button small icon="play" onClick={() => goOn(conversation, turn)}>
        {say.ended.go_on}
      </Button>
    ),
    "sign in": () => (
      // The frame shows the way in once it knows that nobody is signed in.
      <Button small icon="key" onClick={() => void refreshSession()}>
        {say.faults.sign_in}
      </Button>
    ),
    "new chat": () => (
      <Button small icon="plus" onClick={startNew}>
        {say.new_chat}
      </Button>
    ),
    models: () => (
      <Button small icon="cube" onClick={() => go("models")}>
        {say.faults.models}
      </Button>
    ),
    settings: () => (
      <Button small icon="sliders" onClick={() => (isSettingsOpen.value = true)}>
        {say.settings}
      </Button>
    ),
  };
  return (
    <Note tone={hasText ? "warn" : "bad"} title={title} actions={remedies.map((remedy) => buttons[remedy]())}>
      {about || undefined}
    </Note>
  );
}

function Foot({ conversation, turn, place, isLast }: Properties) {
  const say = words.value;
  const others: Entry[] = (models.value ?? [])
    .filter((model) => model.id !== turn.model)
    .map((model) => ({ label: model.id, icon: "cube", run: () => again(conversation, turn, model.id) }));
  return (
    <footer class={isLast ? "turn-foot last" : "turn-foot"}>
      <Versions place={place} choose={(version) => choose(conversation, version)} />
      <CopyButton text={() => turn.content} label={say.copy_answer} done={say.copied} />
      <Menu
        small
        icon="refresh"
        label={say.regenerate}
        entries={[
          { label: say.regenerate, icon: "refresh", run: () => again(conversation, turn) },
          ...(others.length > 0 ? [{ title: say.regenerate_with }, ...others] : []),
        ]}
      />
      <span class="space" />
      <Receipt turn={turn} />
    </footer>
  );
}
