// Keys in a group through which arrows go: tabs and ways to choose from, which have one tab stop, and entries of a
// menu, which have none.

const BY: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/**
 * Goes from the place `at` to the next or the one before, around the ends, or with Home and End to the
 * first or the last. Keys with Alt, Control or Meta are the browser's. The focus goes along to what is the group's tab
 * stop then; where there is none, `go` moves it.
 */
export function rove<T>(event: KeyboardEvent, all: readonly T[], at: number, go: (next: T) => void): void {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const last = all.length - 1;
  const by = BY[event.key];
  const to = event.key === "Home" ? 0 : event.key === "End" ? last : by === undefined ? NaN : at < 0 && by < 0 ? last : (at + by + all.length) % all.length;
  const next = all[to];
  if (next === undefined) return;
  event.preventDefault();
  go(next);
  const group = event.currentTarget as HTMLElement;
  requestAnimationFrame(() => group.querySelector<HTMLElement>('[tabindex="0"]')?.focus());
}
