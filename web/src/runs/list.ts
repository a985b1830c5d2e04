// The list of all runs, asked for now and again as long as any part of the page shows it.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { isAborted } from "../api/http";
import { type List, runs } from "../api/runs";

/** Milliseconds between two looks, where something is under way and where nothing is. */
const [SOON, LATER] = [3000, 20_000];

const list = signal<List | null>(null);
const isFailed = signal(false);
let watchers = 0;
let timer: ReturnType<typeof setTimeout> | undefined;
let control: AbortController | null = null;

async function look(): Promise<void> {
  clearTimeout(timer);
  control?.abort();
  const own = (control = new AbortController());
  let next = LATER;
  try {
    const found = await runs(own.signal);
    list.value = found;
    isFailed.value = false;
    if (found.data.some((run) => run.state === "running")) next = SOON;
  } catch (error) {
    if (isAborted(error)) return;
    isFailed.value = true;
  }
  if (watchers > 0 && !document.hidden) timer = setTimeout(() => void look(), next);
}

/** A page that nobody looks at asks for nothing. */
const seen = (): void => {
  if (!document.hidden) void look();
};

export function useList(): { list: List | null; isFailed: boolean; again: () => void } {
  useEffect(() => {
    if (++watchers === 1) {
      document.addEventListener("visibilitychange", seen);
      void look();
    }
    return () => {
      if (--watchers > 0) return;
      document.removeEventListener("visibilitychange", seen);
      clearTimeout(timer);
    };
  }, []);
  return { list: list.value, isFailed: isFailed.value, again: () => void look() };
}
