// Small parts that say how things stand: figures, meters, badges, folds, notes, empty places, tabs.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { IconButton } from "./button";
import { Icon, type IconName } from "./icon";
import { rove } from "./roving";

/** Colours with a meaning. */
export type Tone = "plain" | "accent" | "good" | "warn" | "bad";

/** A number with its name, in a list of such: `<dl class="figures">`. */
export function Figure({ label, value, about }: { label: string; value: ComponentChildren; about?: ComponentChildren }) {
  return (
    <div class="figure">
      <dt>{label}</dt>
      <dd>
        <b>{value}</b>
        {about !== undefined && about !== "" && <small>{about}</small>}
      </dd>
    </div>
  );
}

/** Something is on its way. */
export function Loading({ label }: { label: string }) {
  return (
    <div class="loading" role="status">
      <Icon name="spinner" />
      <span class="hidden-text">{label}</span>
    </div>
  );
}

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

/** Pages of one place. */
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
  const move = (event: KeyboardEvent): void => {
    // The tabs lie side by side: up and down scroll the page.
    if (event.key === "ArrowUp" || event.key === "ArrowDown") return;
    rove(event, options, options.findIndex(([name]) => name === value), ([name]) => onChange(name));
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
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
