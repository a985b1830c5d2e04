// The chat: the head, the turns, the field to write in; files can be dropped anywhere on it.

import { useEffect, useState } from "preact/hooks";
import { Boundary } from "../app/boundary";
import { RailButton } from "../app/rail_button";
import { isOffline, railContent, refreshSession, session } from "../app/state";
import { Button, Empty, Icon, Note } from "../ui/index";
import { Composer } from "./composer";
import type { Conversation } from "./conversation";
import { dropped } from "./editing";
import { ChatHead } from "./head";
import { Help } from "./help";
import { explainUnsaved } from "./explain";
import { History } from "./history";
import { refreshEntries } from "./list";
import { SettingsDrawer } from "./settings_drawer";
import { isHelpOpen, isSettingsOpen } from "./sheets";
import { onKey } from "./shortcuts";
import { models, refreshModels, usualModel } from "./served";
import { current, missing, show, startNew } from "./state";
import type { Finish } from "./tree";
import { Turns } from "./turns";
import { words } from "./words";
import "./chat.css";
import "./turns.css";

/** The view of chats. */
export function View({ id }: { id: string | null }) {
  const who = session.value;
  useEffect(() => {
    railContent.value = History;
    return () => void (railContent.value = null);
  }, []);
  useEffect(() => {
    void refreshEntries();
    if (!isOffline.value) void refreshModels();
  }, [who?.name, who?.history, isOffline.value]);
  useEffect(() => void show(id), [id, who?.name, who?.history]);
  useEffect(() => {
    const listen = (event: KeyboardEvent): void => {
      if (onKey(event)) event.preventDefault();
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, []);
  const conversation = current.value;
  // The models may come after the first conversation was begun.
  useEffect(() => {
    const usual = usualModel();
    if (conversation && conversation.document.value.model === null && usual !== null)
      conversation.change({ ...conversation.document.value, model: usual });
  }, [conversation, models.value]);

  if (missing.value !== null) return <Missing why={missing.value} id={id} />;
  if (!conversation) return <div class="loading" />;
  return <Open key={conversation.id} conversation={conversation} />;
}

function Missing({ why, id }: { why: "gone" | "failed"; id: string | null }) {
  const say = words.value;
  const isGone = why === "gone";
  return (
    <>
      <header class="view-head">
        <RailButton />
      </header>
      <Empty
        icon="chat"
        title={isGone ? say.gone : say.not_fetched}
        actions={
          <>
            {!isGone && (
              <Button icon="refresh" onClick={() => void show(id)}>
                {say.ended.again}
              </Button>
            )}
            <Button icon="plus" onClick={startNew}>
              {say.new_chat}
            </Button>
          </>
        }
      >
        {isGone ? say.gone_about : say.not_fetched_about}
      </Empty>
    </>
  );
}

function Open({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const [isOver, setOver] = useState(false);
  const hasTurns = conversation.document.value.leaf !== null;
  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  return (
    <div
      class={hasTurns ? "chat" : "chat fresh"}
      onDragOver={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
      }}
      onDrop={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(false);
        dropped.value = [...(event.dataTransfer?.files ?? [])];
      }}
    >
      <Boundary of={conversation}>
        <ChatHead conversation={conversation} />
      </Boundary>
      {isOffline.value && (
        <div class="banner" role="alert">
          <Icon name="unplug" size={16} />
          <span>{say.offline}</span>
          <Button small onClick={() => void refreshSession()}>
            {say.ended.again}
          </Button>
        </div>
      )}
      {hasTurns ? <Turns conversation={conversation} /> : <Welcome conversation={conversation} />}
      <div class="dock">
        {conversation.unsaved.value !== null && (
          <Note tone="warn" title={say.unsaved} actions={<Button small onClick={() => void conversation.save()}>{say.ended.again}</Button>}>
            {explainUnsaved(conversation.unsaved.value)}
          </Note>
        )}
        <Composer conversation={conversation} />
        <p class="caveat">{say.caveat}</p>
      </div>
      <Spoken conversation={conversation} />
      {isSettingsOpen.value && <SettingsDrawer conversation={conversation} />}
      {isHelpOpen.value && <Help />}
      {isOver && (
        <div class="drop">
          <Icon name="file" size={32} />
          <strong>{say.drop}</strong>
          <span class="muted">{say.drop_about}</span>
        </div>
      )}
    </div>
  );
}

function Welcome({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const { model } = conversation.document.value;
  if (models.value !== null && models.value.length === 0 && !isOffline.value)
    return (
      <Empty icon="cube" title={say.no_models} actions={<Button onClick={() => (location.hash = "#/models")}>{say.faults.models}</Button>}>
        {say.no_models_about}
      </Empty>
    );
  return (
    <div class="welcome">
      <h2>{say.welcome}</h2>
      {model !== null && <p class="muted">{say.welcome_about}</p>}
    </div>
  );
}

/** What screen readers are told: how the answer stands, never its every word. */
function Spoken({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const [line, setLine] = useState("");
  const [live] = conversation.live.value.values();
  const phase = live?.phase.value ?? null;
  const { leaf, nodes } = conversation.document.value;
  const finish = leaf === null ? null : (nodes[leaf]?.finish ?? null);
  useEffect(() => {
    if (phase !== null) setLine({ waiting: say.reading, thinking: say.thinking, answering: say.writing }[phase]);
    else setLine((old) => (old === "" ? "" : ended(finish)));
    // Not whenever `finish` changes: it does so too when another version is looked at.
  }, [phase, say]);
  return (
    <div class="hidden-text" role="status" aria-live="polite">
      {line}
    </div>
  );
}

function ended(finish: Finish | null): string {
  const say = words.value;
  // What is in front has not ended: a question, or an answer that was cut off before.
  if (finish === null) return "";
  if (finish === "stopped" || finish === "length") return say.ended[finish];
  return finish === "lost" || finish === "failed" ? say.ended.lost : say.done;
}
