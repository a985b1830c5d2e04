// Short messages over the page, spoken by screen readers.

import { signal } from "@preact/signals";
import { IconButton, Button } from "./button";
import { Icon } from "./icon";

type Toast = {
  id: number;
  tone: "plain" | "good" | "bad";
  words: string;
  action?: { label: string; run: () => void } | undefined;
};

const MILLISECONDS = 6000;
const shown = signal<readonly Toast[]>([]);
let last = 0;

const remove = (id: number): void => {
  shown.value = shown.value.filter((toast) => toast.id !== id);
};

/** Says something in passing. What must be acted on belongs where it happened instead. */
export function say(words: string, tone: Toast["tone"] = "plain", action?: Toast["action"]): void {
  const id = ++last;
  shown.value = [...shown.value.filter((toast) => toast.words !== words), { id, tone, words, action }].slice(-3);
  setTimeout(() => remove(id), MILLISECONDS);
}

/** Where they are drawn; once in the page. */
export function Toasts({ closes }: { closes: string }) {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map(({ id, tone, words, action }) => (
        <div key={id} class={`toast ${tone}`}>
          <Icon name={tone === "bad" ? "warning" : tone === "good" ? "check" : "info"} />
          <span>{words}</span>
          {action && (
            <Button
              kind="quiet"
              small
              onClick={() => {
                remove(id);
                action.run();
              }}
            >
              {action.label}
            </Button>
          )}
          <IconButton small icon="close" label={closes} onClick={() => remove(id)} />
        </div>
      ))}
    </div>
  );
}
