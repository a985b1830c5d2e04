// Where one writes: the words, the files, how long the model may think, and whether its answer is verified.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { session } from "../app/state";
import { type Entry, Icon, IconButton, Menu, NumberField, Popover, rove } from "../ui/index";
import { send, stopAll } from "./acts";
import { attach, count } from "./attach";
import type { Conversation } from "./conversation";
import { dropped, editLast, focusComposer } from "./editing";
import { write } from "./drafts";
import { FileChips } from "./file_chips";
import { canThink, rememberThinking } from "./served";
import { type Checker, MOST_SAMPLES, type Settings, USUAL_SAMPLES } from "./settings";
import { words } from "./words";

const isTouch = matchMedia("(pointer: coarse)");

export function Composer({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const { text, files } = conversation.draft.value;
  const area = useRef<HTMLTextAreaElement>(null);
  const { model } = conversation.document.value;
  const isAnswering = conversation.isAnswering;
  const isEmpty = text.trim() === "" && files.length === 0;

  useEffect(() => {
    // On phones this would cover half of the page with a keyboard.
    if (!isTouch.matches) area.current?.focus();
  }, []);
  useEffect(() => {
    if (focusComposer.value > 0) area.current?.focus();
  }, [focusComposer.value]);
  useLayoutEffect(() => {
    const own = area.current;
    // Browsers that size fields by themselves need not lay out the page twice.
    if (!own || CSS.supports("field-sizing", "content")) return;
    own.style.height = "auto";
    own.style.height = `${own.scrollHeight}px`;
  }, [text]);

  const isHere = useRef(true);
  useEffect(() => () => void (isHere.current = false), []);
  const add = async (given: Iterable<File>): Promise<void> => {
    const owner = session.value?.name;
    // Drafts are kept by who writes them and where: both may be others by the time that files are read.
    const isOver = (): boolean => !isHere.current || session.value?.name !== owner;
    const taken = await attach(conversation, given, isOver);
    if (isOver()) return;
    area.current?.focus();
    await count(conversation, taken, isOver);
  };
  useEffect(() => {
    const given = dropped.value;
    if (given.length === 0) return;
    dropped.value = [];
    void add(given);
  }, [dropped.value]);

  const submit = (): void => {
    if (isEmpty || isAnswering || model === null) return;
    send(conversation);
    if (!isTouch.matches) area.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    // While an input method composes, Enter chooses among its words.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey && !isTouch.matches) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && text === "") {
      if (editLast(conversation)) event.preventDefault();
    }
  };

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <div class="composer-box">
        <FileChips files={files} onRemove={(at) => write(conversation, { files: files.filter((_, place) => place !== at) })} />
        <textarea
          dir="auto"
          ref={area}
          rows={1}
          aria-label={say.message}
          placeholder={model === null ? say.no_models_short : say.ask}
          value={text}
          onInput={(event) => write(conversation, { text: event.currentTarget.value })}
          onKeyDown={onKeyDown}
          onPaste={(event) => {
            const given = [...(event.clipboardData?.files ?? [])];
            if (given.length === 0) return;
            event.preventDefault();
            void add(given);
          }}
        />
        <div class="composer-foot">
          <Attach add={add} />
          {canThink(model) && <ThinkingMenu conversation={conversation} />}
          <VerifyMenu conversation={conversation} />
          <span class="space" />
          {isAnswering ? (
            // Keys keep the two apart: one button that became the other while it is pressed would send the draft.
            <IconButton
              key="stop"
              kind="primary"
              class="round"
              icon="stop"
              label={say.stop}
              onClick={() => {
                stopAll(conversation);
                if (!isTouch.matches) area.current?.focus();
              }}
            />
          ) : (
            <IconButton key="send" kind="primary" class="round" type="submit" icon="send" label={say.send} disabled={isEmpty || model === null} />
          )}
        </div>
      </div>
    </form>
  );
}

function Attach({ add }: { add: (files: Iterable<File>) => Promise<void> }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <IconButton icon="attach" label={words.value.attach} onClick={() => input.current?.click()} />
      <input
        ref={input}
        type="file"
        multiple
        hidden
        onChange={(event) => {
          const own = event.currentTarget;
          const given = [...(own.files ?? [])];
          own.value = "";
          void add(given);
        }}
      />
    </>
  );
}

function change(conversation: Conversation, part: Partial<Settings>): void {
  const document = conversation.document.value;
  conversation.change({ ...document, settings: { ...document.settings, ...part } });
  if (part.thinking) rememberThinking(part.thinking);
}

const BUDGETS = [256, 1024, 4096, 16_384];

function ThinkingMenu({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const { thinking } = conversation.document.value.settings;
  const set = (mode: "usual" | "on" | "off", budget: number | null = null) => ({
    chosen: thinking.mode === mode && thinking.budget === budget,
    run: () => change(conversation, { thinking: { mode, budget } }),
  });
  const budgets = BUDGETS.includes(thinking.budget ?? BUDGETS[0]!) ? BUDGETS : [...BUDGETS, thinking.budget!].sort((a, b) => a - b);
  const entries: Entry[] = [
    { label: say.think_usual, about: say.think_usual_about, ...set("usual") },
    { label: say.think_off, about: say.think_off_about, ...set("off") },
    { label: say.think_on, about: say.think_on_about, ...set("on") },
    null,
    { title: say.think_at_most },
    ...budgets.map((budget) => ({ label: say.tokens(budget), ...set("on", budget) })),
  ];
  const face = {
    usual: say.think,
    off: say.think_off,
    on: thinking.budget === null ? say.think_on : say.think_budget(thinking.budget),
  }[thinking.mode];
  return (
    <Menu
      icon="thought"
      label={say.think_menu}
      face={<span class="pill-words">{face}</span>}
      pressed={thinking.mode === "on"}
      entries={entries}
    />
  );
}

function VerifyMenu({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const { verify } = conversation.document.value.settings;
  const chosen = verify?.checker ?? null;
  const choices: (Checker | null)[] = [null, "majority", "math", "json"];
  const [samples, setSamples] = useState(verify?.samples ?? USUAL_SAMPLES);
  const set = (checker: Checker | null, many = samples): void => {
    change(conversation, { verify: checker === null ? null : { checker, samples: many } });
  };
  return (
    <Popover
      icon="shield"
      label={say.verify}
      face={<span class="pill-words">{verify ? say.verify_samples(verify.samples) : say.verify}</span>}
      pressed={verify !== null}
    >
      {(close) => (
        <div class="verify-panel">
          <p class="muted">{say.verify_about}</p>
          <div role="radiogroup" aria-label={say.verify} onKeyDown={(event) => rove(event, choices, choices.indexOf(chosen), set)}>
            {choices.map((checker) => (
              <button
                key={checker}
                type="button"
                class="menu-item"
                role="radio"
                aria-checked={checker === chosen}
                tabIndex={checker === chosen ? 0 : -1}
                onClick={() => {
                  set(checker);
                  if (checker === null) close();
                }}
              >
                <span>
                  {checker === null ? say.verify_off : say.checkers[checker]}
                  {checker !== null && <small>{say.verdict.about[checker]}</small>}
                </span>
                {checker === chosen && <Icon name="check" size={16} />}
              </button>
            ))}
          </div>
          <NumberField
            label={say.samples}
            value={samples}
            min={2}
            max={MOST_SAMPLES}
            step={1}
            placeholder={String(USUAL_SAMPLES)}
            onChange={(many) => {
              setSamples(many ?? USUAL_SAMPLES);
              if (verify) set(verify.checker, many ?? USUAL_SAMPLES);
            }}
          />
        </div>
      )}
    </Popover>
  );
}
