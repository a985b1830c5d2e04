// A formula: its source until KaTeX is there, and for good where KaTeX cannot read it.

import { useLayoutEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";

/** Longer ones are no formulas. */
const MOST = 4_000;

type Draw = (source: string, isDisplay: boolean) => Node | null;

const draw = signal<Draw | null>(null);
let isAsked = false;

function load(): void {
  if (isAsked) return;
  isAsked = true;
  import("./katex").then(
    (module) => (draw.value = module.draw),
    () => (isAsked = false),
  );
}

export function MathNode({ source, isDisplay }: { source: string; isDisplay: boolean }) {
  const place = useRef<HTMLSpanElement>(null);
  const isShort = source.length <= MOST;
  if (isShort) load();
  const ready = draw.value;
  useLayoutEffect(() => {
    const own = place.current;
    if (!own) return;
    const drawn = isShort && ready ? ready(source, isDisplay) : null;
    own.replaceChildren(drawn ?? document.createTextNode(source));
    own.classList.toggle("formula-source", drawn === null);
  }, [source, isDisplay, isShort, ready]);
  return <span ref={place} class={isDisplay ? "formula display" : "formula"} />;
}
