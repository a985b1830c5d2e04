// Light or dark: the system's way unless somebody chose.

import { computed, effect, signal } from "@preact/signals";

export type Scheme = "system" | "light" | "dark";

const KEPT = "frugal.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = signal(dark.matches);
dark.addEventListener("change", () => (isDark.value = dark.matches));

const kept = localStorage.getItem(KEPT);

/** What was chosen. */
export const scheme = signal<Scheme>(kept === "light" || kept === "dark" ? kept : "system");

/** What is shown. */
export const theme = computed<"light" | "dark">(() =>
  scheme.value === "system" ? (isDark.value ? "dark" : "light") : scheme.value,
);

export function choose(chosen: Scheme): void {
  scheme.value = chosen;
  if (chosen === "system") localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, chosen);
}

effect(() => {
  const root = document.documentElement;
  if (scheme.value === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = scheme.value;
});
