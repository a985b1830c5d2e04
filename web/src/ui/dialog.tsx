// Windows over the page, on the browser's own <dialog>: it keeps the focus inside and gives it back.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { Button, IconButton } from "./button";

type Window = {
  title: string;
  /** The name of the button that closes. */
  closes: string;
  onClose: () => void;
  children: ComponentChildren;
  foot?: ComponentChildren;
};

function Modal({ title, closes, onClose, children, foot, look }: Window & { look: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const own = dialog.current;
    own?.showModal();
    // Not to the button that closes, which comes first: to what asks for it, else to the title.
    const first = own?.querySelector<HTMLElement>("[autofocus]") ?? own?.querySelector<HTMLElement>("h2");
    first?.focus();
    return () => own?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={look}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onPointerDown={(event) => {
        // Outside: the backdrop belongs to the dialog itself.
        const own = dialog.current;
        if (!own || event.target !== own) return;
        const { left, right, top, bottom } = own.getBoundingClientRect();
        const { clientX: x, clientY: y } = event;
        if (x < left || x > right || y < top || y > bottom) onClose();
      }}
    >
      <div class="dialog-head">
        <h2 id={id} tabIndex={-1}>{title}</h2>
        <IconButton icon="close" label={closes} onClick={onClose} />
      </div>
      <div class="dialog-body">{children}</div>
      {foot !== undefined && <div class="dialog-foot">{foot}</div>}
    </dialog>
  );
}

/** A window in the middle. It is open as long as it is drawn. */
export function Dialog({ wide, ...rest }: Window & { wide?: boolean }) {
  return <Modal {...rest} look={wide ? "dialog wide" : "dialog"} />;
}

/** A window at the side. It is open as long as it is drawn. */
export function Drawer({ side = "right", ...rest }: Window & { side?: "left" | "right" }) {
  return <Modal {...rest} look={`drawer ${side}`} />;
}

type Question = { title: string; words: string; yes: string; no: string; isDanger: boolean };
const asked = signal<(Question & { answer: (yes: boolean) => void }) | null>(null);

/** Asks before something that cannot be taken back. */
export function confirm(question: Question): Promise<boolean> {
  return new Promise((resolve) => {
    const answer = (yes: boolean): void => {
      asked.value = null;
      resolve(yes);
    };
    asked.value = { ...question, answer };
  });
}

/** Where questions of {@link confirm} are drawn; once in the page. */
export function Questions() {
  const question = asked.value;
  if (!question) return null;
  const { title, words, yes, no, isDanger, answer } = question;
  return (
    <Dialog
      title={title}
      closes={no}
      onClose={() => answer(false)}
      foot={
        <>
          <Button onClick={() => answer(false)}>{no}</Button>
          <Button kind={isDanger ? "danger" : "primary"} onClick={() => answer(true)}>
            {yes}
          </Button>
        </>
      }
    >
      <p class="muted">{words}</p>
    </Dialog>
  );
}
