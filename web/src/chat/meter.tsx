// How much of what the model can keep in view is used: what was said and what is being written.

import { useEffect, useState } from "preact/hooks";
import { tokenize } from "../api/chat";
import { number, percent, short } from "../i18n/format";
import { Meter, Popover, type Tone } from "../ui/index";
import type { Conversation } from "./conversation";
import { messages, said } from "./prompt";
import { contexts, noteContext, warm } from "./served";
import { pathTo } from "./tree";
import { words } from "./words";

const PAUSE_MILLISECONDS = 600;

/** Tokens of the next prompt as it stands, counted by the server when writing pauses. */
function useTokens(conversation: Conversation): number | null {
  const document = conversation.document.value;
  const { text, files } = conversation.draft.value;
  const isBusy = conversation.isAnswering;
  const { model, system, leaf } = document;
  const [counted, setCounted] = useState<number | null>(null);
  useEffect(() => {
    // A model that is not loaded is not loaded for this.
    if (model === null || isBusy || !warm.has(model)) return undefined;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      const all = messages(system, pathTo(document, leaf));
      const content = said({ content: text, files: [...files] });
      if (content !== "") all.push({ role: "user", content });
      if (all.length === 0) return setCounted(0);
      tokenize({ model, messages: all }, abort.signal).then(
        ({ count, max_model_len }) => {
          setCounted(count);
          noteContext(model, max_model_len);
        },
        () => undefined,
      );
    }, PAUSE_MILLISECONDS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [model, system, leaf, isBusy, text, files, conversation.id]);
  const path = pathTo(document, leaf);
  const last = path.findLast((turn) => turn.usage !== null && turn.usage.prompt_tokens > 0);
  const used = last?.usage ? last.usage.prompt_tokens + last.usage.completion_tokens : null;
  return path.length === 0 && text === "" && files.length === 0 ? null : (counted ?? used);
}

export function ContextMeter({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const tokens = useTokens(conversation);
  const { model } = conversation.document.value;
  const context = model === null ? undefined : contexts.value.get(model);
  if (tokens === null || context === undefined) return null;
  const share = tokens / context;
  const tone: Tone = share > 0.95 ? "bad" : share > 0.8 ? "warn" : "plain";
  return (
    <Popover
      small
      side="end"
      label={say.context_of(number(tokens), number(context))}
      face={
        <span class="context-meter">
          <Meter label={say.context} value={share} tone={tone} words={say.context_of(number(tokens), number(context))} />
          <span class={tone === "plain" ? undefined : tone}>{percent(share)}</span>
        </span>
      }
    >
      {() => (
        <div class="context-panel" tabIndex={0}>
          <strong>{say.context_of(short(tokens), short(context))}</strong>
          <p class="muted">{say.context_about}</p>
        </div>
      )}
    </Popover>
  );
}
