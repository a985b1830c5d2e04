// The conversation in front, from its first turn to its last, kept at its end while it grows.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Boundary } from "../app/boundary";
import { IconButton } from "../ui/index";
import { AnswerTurn } from "./answer_turn";
import type { Conversation } from "./conversation";
import { editing } from "./editing";
import { type Document, isFirst, pathTo, type Turn, versions } from "./tree";
import { UserTurn } from "./user_turn";
import { words } from "./words";

/** Nearer to the end than this counts as being there. */
const NEAR = 80;
/** So many turns at the end are drawn at once; those before them when they come near. */
const NEAR_TURNS = 6;

export function Turns({ conversation }: { conversation: Conversation }) {
  const document = conversation.document.value;
  const path = pathTo(document, document.leaf);
  const scroller = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const sticks = useRef(true);
  const hasOpened = useRef(false);
  const [isAway, setAway] = useState(false);

  const toEnd = (): void => {
    const own = scroller.current;
    if (own) own.scrollTop = own.scrollHeight;
  };
  // A conversation opens at its end, and what is asked anew is followed; another version of a turn stays where it is.
  const { leaf } = document;
  const asked = leaf !== null && conversation.live.value.has(leaf) ? leaf : null;
  useLayoutEffect(() => {
    if (asked === null && hasOpened.current) return;
    hasOpened.current = true;
    sticks.current = true;
    toEnd();
  }, [asked]);
  useEffect(() => {
    if (!list.current) return undefined;
    const watch = new ResizeObserver(() => {
      if (sticks.current) toEnd();
    });
    watch.observe(list.current);
    return () => watch.disconnect();
  }, []);
  const onScroll = (): void => {
    const own = scroller.current;
    if (!own) return;
    sticks.current = own.scrollHeight - own.scrollTop - own.clientHeight < NEAR;
    setAway(!sticks.current);
  };
  // What the reader does with the wheel counts before the next piece pulls the text on.
  const onWheel = (event: WheelEvent): void => {
    if (event.deltaY < 0) sticks.current = false;
  };

  return (
    <div class="turns-frame">
      <div class="turns" ref={scroller} onScroll={onScroll} onWheel={onWheel} tabIndex={-1}>
        <div class="column" ref={list}>
          {path.map((turn, at) => (
            <Boundary key={turn.id} of={turn}>
              <OneTurn conversation={conversation} document={document} turn={turn} fromEnd={path.length - 1 - at} />
            </Boundary>
          ))}
        </div>
      </div>
      {isAway && (
        <div class="to-end">
          <IconButton
            kind="usual"
            icon="arrow_down"
            label={words.value.to_end}
            onClick={() => {
              sticks.current = true;
              toEnd();
            }}
          />
        </div>
      )}
    </div>
  );
}

function placeOf(document: Document, turn: Turn) {
  const all = versions(document, turn);
  const at = all.findIndex((one) => one.id === turn.id);
  return { at, of: all.length, before: all[at - 1] ?? null, after: all[at + 1] ?? null };
}

function OneTurn({
  conversation,
  document,
  turn,
  fromEnd,
}: {
  conversation: Conversation;
  document: Document;
  turn: Turn;
  /** How many turns come after it. */
  fromEnd: number;
}) {
  const place = placeOf(document, turn);
  if (turn.role === "user")
    return (
      <UserTurn
        conversation={conversation}
        turn={turn}
        place={place}
        isEditing={editing.value === turn.id}
        onEdit={(isEditing) => (editing.value = isEditing ? turn.id : null)}
        isUnanswered={fromEnd === 0}
      />
    );
  const other = turn.beside === null ? undefined : document.nodes[turn.beside];
  const one = (shown: Turn, compared: "no" | "preferred" | "other") => (
    <AnswerTurn
      key={shown.id}
      conversation={conversation}
      turn={shown}
      live={conversation.live.value.get(shown.id) ?? null}
      fault={conversation.faults.value.get(shown.id) ?? null}
      place={compared === "other" ? { at: 0, of: 1, before: null, after: null } : place}
      compared={compared}
      isLast={fromEnd === 0}
      isNear={fromEnd < NEAR_TURNS}
    />
  );
  if (!other) return one(turn, "no");
  // Each keeps its side, whichever is gone on with.
  const pair = isFirst(document, turn) ? [one(turn, "preferred"), one(other, "other")] : [one(other, "other"), one(turn, "preferred")];
  return <div class="pair">{pair}</div>;
}
