import type { ComponentChildren, JSX, Ref } from "preact";
import { Icon, type IconName } from "./icon";

/** What every button takes beside its own. */
type Rest = Omit<JSX.HTMLAttributes<HTMLButtonElement>, "icon" | "label" | "size" | "ref"> & {
  type?: "button" | "submit";
  disabled?: boolean;
  inner?: Ref<HTMLButtonElement>;
};

type Look = {
  /** primary: the one thing to do here; usual: with an outline; quiet: without; danger: takes away. */
  kind?: "primary" | "usual" | "quiet" | "danger";
  small?: boolean;
};

const look = ({ kind = "usual", small }: Look, more = ""): string =>
  `button ${kind}${small ? " small" : ""}${more}`;

/** A button with words, and perhaps a picture before them. */
export function Button({
  kind,
  small,
  icon,
  children,
  inner,
  class: more,
  ...rest
}: Rest & Look & { icon?: IconName | undefined; children?: ComponentChildren }) {
  return (
    <button type="button" ref={inner} class={look({ kind, small }, more ? ` ${String(more)}` : "")} {...rest}>
      {icon && <Icon name={icon} size={small ? 16 : 18} />}
      {children}
    </button>
  );
}

/** A button that is a picture alone; `label` is its name for screen readers and its tooltip. */
export function IconButton({
  kind = "quiet",
  small,
  icon,
  label,
  inner,
  class: more,
  ...rest
}: Rest & Look & { icon: IconName; label: string }) {
  return (
    <button
      type="button"
      ref={inner}
      class={look({ kind, small }, ` bare${more ? ` ${String(more)}` : ""}`)}
      aria-label={label}
      title={label}
      {...rest}
    >
      <Icon name={icon} size={small ? 16 : 18} />
    </button>
  );
}

/** A link that looks like a button. */
export function LinkButton({
  kind,
  small,
  icon,
  href,
  children,
}: Look & { icon?: IconName; href: string; children: ComponentChildren }) {
  return (
    <a class={look({ kind, small })} href={href}>
      {icon && <Icon name={icon} size={small ? 16 : 18} />}
      {children}
    </a>
  );
}
