// Links by reference: `[words][label]` leads where a line anywhere in the text says, `[label]: address`.
// Stretches are read one by one, so what they define is gathered here, and each is given what it names.

import { type Definitions, definitionsIn } from "./lex";
import type { Segment } from "./segments";

const NONE: Definitions = {};
const LABEL = /\[((?:[^[\]\\]|\\[^])+)\]/g;

/** As labels are compared: in any case, with any space. */
const folded = (label: string): string => label.trim().replace(/\s+/g, " ").toLowerCase().toUpperCase().toLowerCase();

/** The definitions of a growing text, and which of them a stretch names. */
export class References {
  private all = NONE;
  private read: readonly Segment[] = [];
  private readonly known = new WeakMap<Segment, { all: Definitions; named: Definitions }>();

  /** Takes the stretches that no longer change, those that were taken before included. */
  take(settled: readonly Segment[]): void {
    const isLonger = settled[this.read.length - 1] === this.read.at(-1);
    const found = settled.slice(isLonger ? this.read.length : 0).map(({ text, fence }) => (fence ? NONE : definitionsIn(text)));
    this.read = settled;
    const before = isLonger ? this.all : NONE;
    // Of several for one label the first holds.
    const all = found.reduceRight<Record<string, Definitions[string]>>((later, one) => Object.assign(later, one), {});
    if (!isLonger || Object.keys(all).length > 0) this.all = { ...all, ...before };
  }

  /** The definitions that a stretch names: the same object as long as they are the same. */
  of(segment: Segment): Definitions {
    if (this.all === NONE || segment.fence) return NONE;
    const last = this.known.get(segment);
    if (last?.all === this.all) return last.named;
    const now: Record<string, Definitions[string]> = {};
    for (const [, label = ""] of segment.text.matchAll(LABEL)) {
      const name = folded(label);
      const given = Object.hasOwn(this.all, name) ? this.all[name] : undefined;
      if (given) now[name] = given;
    }
    const before = last?.named ?? NONE;
    const named = isSame(before, now) ? before : now;
    this.known.set(segment, { all: this.all, named });
    return named;
  }
}

function isSame(one: Definitions, other: Definitions): boolean {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name]?.href === other[name]?.href);
}
