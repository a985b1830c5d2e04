// A block of code with its language, a button that copies it, and colours once they are loaded.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { CopyButton } from "../ui/index";
import type { Painted } from "./highlight";
import { words } from "./words";

/** Longer code stays plain: colouring is slower than reading by then. */
const MOST = 40_000;
/** While code is being written it is coloured anew with every piece. */
const MOST_GROWING = 6_000;

type Paint = (code: string, language: string) => Painted[] | null;

const paint = signal<Paint | null>(null);
let isAsked = false;

function load(): void {
  if (isAsked) return;
  isAsked = true;
  import("./highlight").then(
    (module) => (paint.value = module.paint),
    // Plain code is code too; the next block tries again.
    () => (isAsked = false),
  );
}

function draw(nodes: readonly Painted[]): ComponentChildren {
  return nodes.map((node) => (typeof node === "string" ? node : <span class={node.look}>{draw(node.inner)}</span>));
}

export function CodeBlock({ code, language, isGrowing }: { code: string; language: string; isGrowing: boolean }) {
  const isShort = code.length <= (isGrowing ? MOST_GROWING : MOST);
  const wants = language !== "" && isShort;
  if (wants) load();
  const painter = paint.value;
  const painted = useMemo(
    () => (wants && painter ? painter(code, language.toLowerCase()) : null),
    [wants, painter, code, language],
  );
  return (
    <figure class="code">
      <figcaption>
        <span class="truncate">{language.slice(0, 40) || words.value.code}</span>
        <CopyButton text={() => code} label={words.value.copy_code} done={words.value.copied} />
      </figcaption>
      <pre tabIndex={0}>
        <code>{painted ? draw(painted) : code}</code>
      </pre>
    </figure>
  );
}
