// Things that hang on a button: a menu of deeds, or any small panel.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button, IconButton } from "./button";
import { Icon, type IconName } from "./icon";
import { rove } from "./roving";

const GAP = 6;

/** Puts a panel under its button, or above where there is more room, within the window. */
function place(panel: HTMLElement, button: HTMLElement, side: "start" | "end"): void {
  const at = button.getBoundingClientRect();
  const { innerWidth: width, innerHeight: height } = window;
  const own = panel.getBoundingClientRect();
  const below = height - at.bottom - GAP;
  const goesUp = below < own.height && at.top > below;
  const left = side === "start" ? at.left : at.right - own.width;
  panel.style.left = `${Math.max(8, Math.min(left, width - own.width - 8))}px`;
  panel.style.top = goesUp ? `${Math.max(8, at.top - GAP - own.height)}px` : `${at.bottom + GAP}px`;
}

type Opener = {
  /** The name of the button; shown, unless it has a picture alone. */
  label: string;
  icon?: IconName | undefined;
  /** Shown in place of the label. */
  face?: ComponentChildren;
  kind?: "usual" | "quiet";
  small?: boolean;
  disabled?: boolean;
  /** Which edges are in line. */
  side?: "start" | "end";
  /** Also set where the button is pressed in: the panel is about something that is on. */
  pressed?: boolean;
};

/** A panel that opens beside its button; a click elsewhere or Escape closes it. */
export function Popover({
  label,
  icon,
  face,
  kind = "quiet",
  small,
  disabled,
  side = "start",
  pressed,
  role = "dialog",
  roomy = true,
  children,
}: Opener & {
  role?: "dialog" | "menu";
  roomy?: boolean;
  children: (close: () => void) => ComponentChildren;
}) {
  const [isOpen, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const id = useId();
  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };

  useLayoutEffect(() => {
    if (!isOpen || !panel.current || !button.current) return;
    // In the top layer, so that no ancestor cuts it off, dialogs included.
    panel.current.showPopover();
    place(panel.current, button.current, side);
    const chosen = panel.current.querySelector<HTMLElement>('[aria-checked="true"]');
    const first = chosen ?? panel.current.querySelector<HTMLElement>('button, input, a, [tabindex="0"]');
    first?.focus({ preventScroll: true });
  }, [isOpen]);

  useEffect(() => {
    if (!isOpen) return undefined;
    const outside = (event: Event): void => {
      const target = event.target as Node;
      if (!panel.current?.contains(target) && !button.current?.contains(target)) setOpen(false);
    };
    const replace = (): void => {
      if (panel.current && button.current) place(panel.current, button.current, side);
    };
    document.addEventListener("pointerdown", outside, true);
    window.addEventListener("resize", replace);
    return () => {
      document.removeEventListener("pointerdown", outside, true);
      window.removeEventListener("resize", replace);
    };
  }, [isOpen]);

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      close();
    } else if (role === "menu" && event.key === "Tab") setOpen(false);
    else if (role === "menu") walk(event);
  };
  const opener = {
    inner: button,
    kind,
    disabled,
    "aria-haspopup": role,
    "aria-expanded": isOpen,
    "aria-pressed": pressed,
    "aria-controls": isOpen ? id : undefined,
    onClick: () => setOpen(!isOpen),
  } as const;
  return (
    <>
      {icon !== undefined && face === undefined ? (
        <IconButton icon={icon} label={label} small={small ?? false} {...opener} />
      ) : (
        <Button icon={icon} small={small ?? false} title={face === undefined ? undefined : label} {...opener}>
          {face !== undefined && <span class="hidden-text">{label} </span>}
          {face ?? label}
        </Button>
      )}
      {isOpen && (
        <div
          ref={panel}
          id={id}
          class={roomy ? "popover roomy" : "popover"}
          popover="manual"
          role={role}
          aria-label={label}
          onKeyDown={onKeyDown}
        >
          {children(close)}
        </div>
      )}
    </>
  );
}

/** Goes from entry to entry of a menu. */
function walk(event: KeyboardEvent): void {
  // The entries lie one under the other: left and right belong to nobody here.
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") return;
  const menu = event.currentTarget as HTMLElement;
  const entries = [...menu.querySelectorAll<HTMLElement>(".menu-item:not(:disabled)")];
  rove(event, entries, entries.indexOf(document.activeElement as HTMLElement), (entry) => entry.focus());
}

/** An entry of a menu, or a line between entries. */
export type Entry =
  | {
      label: string;
      /** A second, quieter line. */
      about?: string | undefined;
      icon?: IconName | undefined;
      kind?: "danger";
      disabled?: boolean;
      /** Set where the menu chooses: whether this is chosen. */
      chosen?: boolean;
      run: () => void;
    }
  | { title: string }
  | null;

/** A button with a menu of deeds. `null` draws a line. */
export function Menu({ entries, ...opener }: Opener & { entries: readonly Entry[] }) {
  return (
    <Popover {...opener} role="menu" roomy={false}>
      {(close) => <Entries entries={entries} close={close} />}
    </Popover>
  );
}

function Entries({ entries, close }: { entries: readonly Entry[]; close: () => void }) {
  return (
    <>
      {entries.map((entry, index) => {
        if (entry === null) return <hr key={index} class="menu-line" role="separator" />;
        if ("title" in entry)
          return (
            <div key={index} class="menu-title" role="presentation">
              {entry.title}
            </div>
          );
        const chooses = entry.chosen !== undefined;
        return (
          <button
            key={index}
            type="button"
            class={entry.kind === "danger" ? "menu-item danger" : "menu-item"}
            role={chooses ? "menuitemradio" : "menuitem"}
            aria-checked={chooses ? entry.chosen : undefined}
            tabIndex={-1}
            disabled={entry.disabled}
            onClick={() => {
              close();
              entry.run();
            }}
          >
            {entry.icon && <Icon name={entry.icon} />}
            <span>
              {entry.label}
              {entry.about !== undefined && <small>{entry.about}</small>}
            </span>
            {entry.chosen && <Icon name="check" size={16} />}
          </button>
        );
      })}
    </>
  );
}
