// Small parts that say how things stand: meters, badges, folds, notes, empty places, tabs, tables.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { IconButton } from "./button";
import { Icon, type IconName } from "./icon";

/** Colours with a meaning. */
export type Tone = "plain" | "accent" | "good" | "warn" | "bad";

/** How much of something is used or done. Without a value it is under way, nobody knows how far. */
export function Meter({
  label,
  value,
  words,
  tone = "plain",
}: {
  label: string;
  /** From 0 to 1. */
  value: number | null;
  /** The value in words, for screen readers. */
  words?: string;
  tone?: Tone;
}) {
  const share = value === null ? null : Math.min(1, Math.max(0, value));
  return (
    <span
      class={`meter ${tone}${share === null ? " endless" : ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={share === null ? undefined : Math.round(share * 100)}
      aria-valuetext={words}
    >
      <i style={share === null ? undefined : { width: `${share * 100}%` }} />
    </span>
  );
}

/** A word or two about a thing. */
export function Badge({ tone = "plain", icon, children }: { tone?: Tone; icon?: IconName; children: ComponentChildren }) {
  return (
    <span class={`badge ${tone}`}>
      {icon && <Icon name={icon} size={13} />}
      {children}
    </span>
  );
}

/** Something under a line that opens it. With `isOpen` the caller keeps the state. */
export function Fold({
  head,
  isOpen,
  onToggle,
  children,
  class: more = "",
}: {
  head: ComponentChildren;
  isOpen?: boolean;
  onToggle?: (isOpen: boolean) => void;
  children: ComponentChildren;
  class?: string;
}) {
  const [own, setOwn] = useState(false);
  const id = useId();
  const open = isOpen ?? own;
  const toggle = (): void => {
    setOwn(!open);
    onToggle?.(!open);
  };
  return (
    <div class={`fold ${more}`}>
      <button type="button" class="fold-head" aria-expanded={open} aria-controls={id} onClick={toggle}>
        <span class="chevron">
          <Icon name="chevron_right" size={14} />
        </span>
        {head}
      </button>
      <div id={id} hidden={!open}>
        {open && children}
      </div>
    </div>
  );
}

/** A place where nothing is yet, and what to do about it. */
export function Empty({
  icon,
  title,
  children,
  actions,
}: {
  icon: IconName;
  title: string;
  children?: ComponentChildren;
  actions?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <Icon name={icon} size={32} />
      <h2>{title}</h2>
      {children !== undefined && <p>{children}</p>}
      {actions !== undefined && <div class="actions">{actions}</div>}
    </div>
  );
}

/** Something the reader should know, where it matters. */
export function Note({
  tone = "plain",
  title,
  children,
  actions,
}: {
  tone?: "plain" | "warn" | "bad";
  title?: string;
  children?: ComponentChildren;
  actions?: ComponentChildren;
}) {
  return (
    <div class={`note ${tone}`} role={tone === "bad" ? "alert" : "note"}>
      <Icon name={tone === "plain" ? "info" : "warning"} />
      <div>
        {title !== undefined && <strong>{title}</strong>}
        {children !== undefined && <p>{children}</p>}
        {actions !== undefined && <div class="actions">{actions}</div>}
      </div>
    </div>
  );
}

/** Pages of one place. `panel` is the id of the element that shows the chosen one. */
export function Tabs<T extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}) {
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    const at = options.findIndex(([name]) => name === value);
    const next = options[(at + by + options.length) % options.length];
    if (next) onChange(next[0]);
    requestAnimationFrame(() => list.current?.querySelector<HTMLElement>('[aria-selected="true"]')?.focus());
  };
  return (
    <div ref={list} class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
      {options.map(([name, words]) => (
        <button
          key={name}
          type="button"
          role="tab"
          aria-selected={name === value}
          tabIndex={name === value ? 0 : -1}
          onClick={() => onChange(name)}
        >
          {words}
        </button>
      ))}
    </div>
  );
}

/** A column: its head, what stands in it, and what it is sorted by, if it can be. */
export type Column<T> = {
  head: string;
  cell: (row: T) => ComponentChildren;
  isNumber?: boolean;
  sort?: (row: T) => number | string;
};

/** Rows under heads that sort. With `onOpen` a row is a link, by its first cell's own link or by a click. */
export function Table<T>({
  label,
  rows,
  columns,
  id,
  onOpen,
}: {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  id: (row: T) => string;
  onOpen?: (row: T) => void;
}) {
  const [by, setBy] = useState<{ at: number; down: boolean } | null>(null);
  const key = by === null ? undefined : columns[by.at]?.sort;
  const sorted =
    key === undefined
      ? rows
      : [...rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
          return by?.down ? -order : order;
        });
  const order = (at: number): "ascending" | "descending" | "none" =>
    by?.at !== at ? "none" : by.down ? "descending" : "ascending";
  return (
    <div class="table-frame" tabIndex={0} role="region" aria-label={label}>
      <table class="table">
        <thead>
          <tr>
            {columns.map((column, at) => (
              <th
                key={at}
                scope="col"
                class={column.isNumber ? "number" : ""}
                aria-sort={column.sort ? order(at) : undefined}
              >
                {column.sort ? (
                  <button type="button" onClick={() => setBy({ at, down: by?.at === at ? !by.down : false })}>
                    {column.head}
                    {by?.at === at && <Icon name={by.down ? "arrow_down" : "arrow_up"} size={12} />}
                  </button>
                ) : (
                  column.head
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((row) => (
            <tr
              key={id(row)}
              class={onOpen ? "link" : ""}
              onClick={(event) => {
                // A click on a control inside is that control's.
                if (!(event.target as Element).closest("a, button, input")) onOpen?.(row);
              }}
            >
              {columns.map((column, at) => (
                <td key={at} class={column.isNumber ? "number" : ""}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Copies a text; the picture tells that it did. */
export function CopyButton({ text, label, done }: { text: () => string; label: string; done: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 1600);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async (): Promise<void> => {
    await copyText(text());
    setCopied(true);
  };
  return <IconButton small icon={copied ? "check" : "copy"} label={copied ? done : label} onClick={copy} />;
}

/** Puts a text on the clipboard, also where the page is served without TLS on another host. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  area.style.opacity = "0";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** The keys of a shortcut. */
export function Keys({ keys }: { keys: readonly string[] }) {
  return (
    <span class="keys">
      {keys.map((key) => (
        <kbd key={key}>{key}</kbd>
      ))}
    </span>
  );
}
