// Words in three languages. Each view keeps its own: `en/NAME.ts` is the shape, `de/` and `zh/` must
// have the same, which the compiler checks; `dictionary` makes of the three what the view reads.
//
//   const words = dictionary({ en, de, zh });     words.value.send     words.value.tokens(12)

import { computed, type ReadonlySignal, signal } from "@preact/signals";

/** The languages there are, by what they call themselves. */
export const LANGUAGES = { en: "English", de: "Deutsch", zh: "中文" } as const;
/** One of them. */
export type Language = keyof typeof LANGUAGES;

const KEPT = "frugal.language";

function first(): Language {
  const wanted = [localStorage.getItem(KEPT), ...navigator.languages];
  for (const tag of wanted) {
    const short = tag?.slice(0, 2).toLowerCase();
    if (short !== undefined && short in LANGUAGES) return short as Language;
  }
  return "en";
}

/** The language of the page. */
export const language = signal<Language>(first());

/** Chooses it, and keeps the choice. */
export function speak(chosen: Language): void {
  language.value = chosen;
  localStorage.setItem(KEPT, chosen);
}

/** The words of the chosen language, out of all. */
export function dictionary<W>(all: Record<Language, W>): ReadonlySignal<W> {
  return computed(() => all[language.value]);
}
