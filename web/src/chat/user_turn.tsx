// What the reader asked, with its files; it can be asked otherwise, in a branch of its own.

import { useEffect, useRef, useState } from "preact/hooks";
import { memo } from "../text/memo";
import { Button, CopyButton, IconButton } from "../ui/index";
import { answerIt, choose, edit } from "./acts";
import type { Conversation } from "./conversation";
import { FileChips } from "./file_chips";
import type { Turn } from "./tree";
import { Versions } from "./versions";
import { words } from "./words";

/** Longer questions, pasted logs for the most part, are folded at first. */
const MOST_CHARACTERS = 2_400;
const MOST_LINES = 24;

type Properties = {
  conversation: Conversation;
  turn: Turn;
  place: { at: number; of: number; before: Turn | null; after: Turn | null };
  isEditing: boolean;
  onEdit: (isEditing: boolean) => void;
  /** Set where nothing follows: a question without an answer. */
  isUnanswered: boolean;
};

export const UserTurn = memo(
  function UserTurn({ conversation, turn, place, isEditing, onEdit, isUnanswered }: Properties) {
    const say = words.value;
    if (isEditing) return <Editor conversation={conversation} turn={turn} onClose={() => onEdit(false)} />;
    return (
      <article class="turn question" aria-label={say.your_question} data-turn={turn.id}>
        <h2 class="hidden-text">{say.your_question}</h2>
        <FileChips files={turn.files} />
        {turn.content !== "" && <Words text={turn.content} />}
        <footer class="turn-foot">
          <CopyButton text={() => turn.content} label={say.copy_question} done={say.copied} />
          <IconButton small icon="edit" label={say.edit} onClick={() => onEdit(true)} />
          <Versions place={place} choose={(version) => choose(conversation, version)} />
          {isUnanswered && (
            <Button small icon="play" onClick={() => answerIt(conversation, turn)}>
              {say.answer_it}
            </Button>
          )}
        </footer>
      </article>
    );
  },
  (old, now) =>
    old.turn === now.turn &&
    old.isEditing === now.isEditing &&
    old.isUnanswered === now.isUnanswered &&
    old.conversation === now.conversation &&
    old.place.at === now.place.at &&
    old.place.of === now.place.of,
);

function Words({ text }: { text: string }) {
  const [isWhole, setWhole] = useState(false);
  const isLong = text.length > MOST_CHARACTERS || text.split("\n", MOST_LINES + 1).length > MOST_LINES;
  const say = words.value;
  const shown = isLong && !isWhole ? text.split("\n").slice(0, MOST_LINES).join("\n").slice(0, MOST_CHARACTERS) : text;
  return (
    <div class="bubble">
      <p class={isLong && !isWhole ? "clipped" : undefined} dir="auto">
        {shown}
      </p>
      {isLong && (
        <Button kind="quiet" small aria-expanded={isWhole} onClick={() => setWhole(!isWhole)}>
          {isWhole ? say.less : say.more}
        </Button>
      )}
    </div>
  );
}

function Editor({ conversation, turn, onClose }: { conversation: Conversation; turn: Turn; onClose: () => void }) {
  const say = words.value;
  const [text, setText] = useState(turn.content);
  const [files, setFiles] = useState(turn.files);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    const own = area.current;
    if (!own) return;
    own.focus();
    own.setSelectionRange(own.value.length, own.value.length);
  }, []);
  const isEmpty = text.trim() === "" && files.length === 0;
  const submit = (): void => {
    if (isEmpty) return;
    onClose();
    edit(conversation, turn, text.trim(), files);
  };
  return (
    <article class="turn question editing" aria-label={say.edit}>
      <div class="editor">
        <FileChips files={files} onRemove={(at) => setFiles(files.filter((_, place) => place !== at))} />
        <textarea
          ref={area}
          class="input"
          dir="auto"
          aria-label={say.your_question}
          rows={Math.min(14, text.split("\n").length + 1)}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") {
              event.stopPropagation();
              onClose();
            } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
          }}
        />
        <div class="editor-foot">
          <span class="muted">{say.edit_branches}</span>
          <Button onClick={onClose}>{say.cancel}</Button>
          <Button kind="primary" disabled={isEmpty} onClick={submit}>
            {say.send}
          </Button>
        </div>
      </div>
    </article>
  );
}
