import { afterEach, expect, test, vi } from "vitest";
import { rove } from "../../src/ui/roving";

afterEach(() => vi.unstubAllGlobals());

/** Where a key leads from the second of three; null where it is let pass. */
function led(key: string, held: Partial<KeyboardEvent> = {}): string | null {
  vi.stubGlobal("requestAnimationFrame", () => 0);
  let to: string | null = null;
  let isTaken = false;
  const event = { key, altKey: false, ctrlKey: false, metaKey: false, ...held, preventDefault: () => void (isTaken = true) };
  rove(event as unknown as KeyboardEvent, ["a", "b", "c"], 1, (next) => (to = next));
  expect(isTaken).toBe(to !== null);
  return to;
}

test("arrows, Home and End lead through a group, and what the browser does with keys held stays", () => {
  for (const [key, to] of [["ArrowRight", "c"], ["ArrowUp", "a"], ["Home", "a"], ["End", "c"], ["Enter", null]] as const) expect(led(key), key).toBe(to);
  for (const held of [{ altKey: true }, { ctrlKey: true }, { metaKey: true }]) expect(led("ArrowLeft", held)).toBeNull();
});
