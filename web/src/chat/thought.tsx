// The thought of an answer: open while it is thought, folded once the answer comes, unless the reader
// has chosen.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { seconds as asSeconds } from "../i18n/format";
import { Markdown } from "../text/markdown";
import { Badge, Button, Icon } from "../ui/index";
import { hurry } from "./answering";
import { useSeconds } from "./clock";
import type { Live } from "./conversation";
import type { Turn } from "./tree";
import { words } from "./words";

/** Keeps the end of a growing text in sight, unless the reader scrolled up in it. */
function useTail(text: string, isOn: boolean) {
  const box = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  useEffect(() => {
    const own = box.current;
    if (!isOn || !own) return;
    if (isAtEnd.current) own.scrollTop = own.scrollHeight;
    own.classList.toggle("cut", own.scrollTop > 4);
  }, [text, isOn]);
  const onScroll = (): void => {
    const own = box.current;
    if (!own) return;
    own.classList.toggle("cut", own.scrollTop > 4);
    isAtEnd.current = own.scrollHeight - own.scrollTop - own.clientHeight < 24;
  };
  return { box, onScroll };
}

export function LiveThought({ live, turn }: { live: Live; turn: Turn }) {
  const say = words.value;
  const isThinking = live.phase.value === "thinking";
  const text = live.reasoning.value;
  const since = useSeconds(live.thoughtAt, isThinking);
  const whole = live.thoughtAt === null ? 0 : ((live.answerAt ?? 0) - live.thoughtAt) / 1000;
  const before = turn.seconds?.thought ?? 0;
  if (text === "") return null;
  const time = asSeconds(before + (isThinking ? since : Math.max(0, whole)));
  const tokens = say.tokens(live.thoughtTokens.value + (turn.usage?.reasoning_tokens ?? 0));
  return (
    <Frame
      text={text}
      isThinking={isThinking}
      head={isThinking ? say.thinking : say.thought_for(time)}
      about={isThinking ? `${time} · ${tokens}` : tokens}
      aside={
        isThinking && (
          <Button small icon="skip" disabled={live.isHurried.value} onClick={() => void hurry(live)}>
            {live.isHurried.value ? say.hurrying : say.answer_now}
          </Button>
        )
      }
    />
  );
}

export function DoneThought({ turn }: { turn: Turn }) {
  const say = words.value;
  if (!turn.reasoning) return null;
  const time = turn.seconds?.thought ?? null;
  const tokens = turn.usage?.reasoning_tokens ?? 0;
  const closed = turn.closed && say.closed[turn.closed];
  return (
    <Frame
      text={turn.reasoning}
      isThinking={false}
      head={time === null ? say.thought : say.thought_for(asSeconds(time))}
      about={tokens > 0 && !turn.verify ? say.tokens(tokens) : ""}
      aside={closed && <Badge tone={turn.closed === "circles" ? "warn" : "plain"}>{closed}</Badge>}
    />
  );
}

function Frame({
  text,
  isThinking,
  head,
  about,
  aside,
}: {
  text: string;
  isThinking: boolean;
  head: string;
  about: string;
  aside: ComponentChildren;
}) {
  const [chosen, setChosen] = useState<boolean | null>(null);
  const isOpen = chosen ?? isThinking;
  // Open by itself it is a window on the last lines; opened by hand it is as long as it is.
  const isWindow = isThinking && chosen !== true;
  const { box, onScroll } = useTail(text, isWindow);
  return (
    <section class={isThinking ? "thought thinking" : "thought"}>
      <div class="thought-head">
        <button type="button" class="thought-toggle" aria-expanded={isOpen} onClick={() => setChosen(!isOpen)}>
          <Icon name="thought" size={16} />
          <span class="thought-words">{head}</span>
          {about !== "" && <span class="thought-about">{about}</span>}
          <span class="chevron">
            <Icon name="chevron_right" size={14} />
          </span>
        </button>
        {aside}
      </div>
      {isOpen && (
        <div ref={box} onScroll={onScroll} class={isWindow ? "thought-text window" : "thought-text"} tabIndex={isWindow ? 0 : undefined}>
          <Markdown source={text} isGrowing={isThinking} />
        </div>
      )}
    </section>
  );
}
