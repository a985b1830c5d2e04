import { useId } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { Icon } from "./icon";
import { rove } from "./roving";

type Around = {
  label: string;
  /** A line of explanation. */
  hint?: string | undefined;
  /** What is wrong with the value. */
  fault?: string | undefined;
  /** Stands at the end of the label's line. */
  aside?: ComponentChildren;
};

/** A label, its control and what is to be said about it. */
function Field({
  label,
  hint,
  fault,
  aside,
  children,
}: Around & { children: (ids: { id: string; describedBy: string | undefined }) => ComponentChildren }) {
  const id = useId();
  const about = fault ?? hint;
  const describedBy = about === undefined ? undefined : `${id}-about`;
  return (
    <div class="field">
      <div class="head">
        <label for={id}>{label}</label>
        {aside}
      </div>
      {children({ id, describedBy })}
      {about !== undefined && (
        // A fault is an element of its own, not the hint changed: only what is put in as an alert is read out everywhere.
        <div
          key={fault === undefined ? "hint" : "fault"}
          id={describedBy}
          class={fault === undefined ? "hint" : "fault"}
          role={fault === undefined ? undefined : "alert"}
        >
          {about}
        </div>
      )}
    </div>
  );
}

/** A line of text. */
export function TextField({
  value,
  onInput,
  type = "text",
  placeholder,
  autofocus,
  ...around
}: Around & {
  value: string;
  onInput: (value: string) => void;
  type?: "text" | "password";
  placeholder?: string;
  autofocus?: boolean;
}) {
  return (
    <Field {...around}>
      {({ id, describedBy }) => (
        <input
          class="input"
          id={id}
          type={type}
          value={value}
          placeholder={placeholder}
          autofocus={autofocus}
          autocomplete="off"
          spellcheck={false}
          aria-describedby={describedBy}
          aria-invalid={around.fault !== undefined}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

/** Lines of text. */
export function TextArea({
  value,
  onInput,
  placeholder,
  rows = 4,
  ...around
}: Around & { value: string; onInput: (value: string) => void; placeholder?: string; rows?: number }) {
  return (
    <Field {...around}>
      {({ id, describedBy }) => (
        <textarea
          class="input"
          id={id}
          rows={rows}
          value={value}
          placeholder={placeholder}
          aria-describedby={describedBy}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

/** One of a list. */
export function Select<T extends string>({
  value,
  options,
  onChange,
  ...around
}: Around & { value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  return (
    <Field {...around}>
      {({ id, describedBy }) => (
        <select
          class="input"
          id={id}
          value={value}
          aria-describedby={describedBy}
          onChange={(event) => onChange(event.currentTarget.value as T)}
        >
          {options.map(([name, words]) => (
            <option key={name} value={name}>
              {words}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

type Bounds = { min: number; max: number; step: number };

/** The number of a text within bounds, whole where steps are; null where it is none. */
function within(text: string, { min, max, step }: Bounds): number | null {
  const number = Number(text);
  if (text.trim() === "" || Number.isNaN(number)) return null;
  return Math.min(max, Math.max(min, Number.isInteger(step) ? Math.round(number) : number));
}

type Numeric = Bounds & {
  value: number | null;
  /** Shown where no number is set. */
  placeholder: string;
  onChange: (value: number | null) => void;
};

function NumberInput({ value, placeholder, onChange, id, describedBy, ...bounds }: Numeric & { id: string; describedBy: string | undefined }) {
  return (
    <input
      class="input"
      id={id}
      type="number"
      inputMode="decimal"
      aria-describedby={describedBy}
      {...bounds}
      value={value ?? ""}
      placeholder={placeholder}
      onChange={(event) => {
        const given = within(event.currentTarget.value, bounds);
        // What was typed may be beyond a bound at which the value already is: nothing would be drawn anew.
        event.currentTarget.value = given === null ? "" : String(given);
        onChange(given);
      }}
    />
  );
}

/** A number within bounds, or none. */
export function NumberField({ label, hint, fault, aside, ...numeric }: Around & Numeric) {
  return (
    <Field label={label} hint={hint} fault={fault} aside={aside}>
      {(ids) => <NumberInput {...ids} {...numeric} />}
    </Field>
  );
}

/** A number within bounds, also by dragging; none where the default is taken (then its field shows `usual`). */
export function Slider({
  value,
  usual,
  min,
  max,
  step,
  onChange,
  ...around
}: Around &
  Omit<Numeric, "placeholder"> & {
    /** The default, where it is known. */
    usual: number | null;
  }) {
  const bounds = { min, max, step };
  return (
    <Field {...around}>
      {(ids) => (
        <div class="slider">
          <input
            type="range"
            aria-label={around.label}
            aria-describedby={ids.describedBy}
            {...bounds}
            value={value ?? usual ?? min}
            onInput={(event) => onChange(within(event.currentTarget.value, bounds))}
          />
          <NumberInput {...ids} {...bounds} value={value} placeholder={usual === null ? "–" : String(usual)} onChange={onChange} />
        </div>
      )}
    </Field>
  );
}

/** One of a few, all seen at once. Arrow keys move. */
export function Choice<T extends string>({
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
  const move = (event: KeyboardEvent): void =>
    rove(event, options, options.findIndex(([name]) => name === value), ([name]) => onChange(name));
  return (
    <div class="choice" role="radiogroup" aria-label={label} onKeyDown={move}>
      {options.map(([name, words]) => (
        <button
          key={name}
          type="button"
          role="radio"
          aria-checked={name === value}
          tabIndex={name === value ? 0 : -1}
          onClick={() => onChange(name)}
        >
          {words}
        </button>
      ))}
    </div>
  );
}

/** Text to look for. */
export function SearchField({
  label,
  value,
  onInput,
  id,
}: {
  label: string;
  value: string;
  onInput: (value: string) => void;
  id?: string;
}) {
  return (
    <label class="search">
      <Icon name="search" size={16} />
      <input
        class="input"
        type="search"
        id={id}
        aria-label={label}
        placeholder={label}
        value={value}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => onInput(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || value === "") return;
          event.stopPropagation();
          event.preventDefault();
          onInput("");
        }}
      />
    </label>
  );
}
