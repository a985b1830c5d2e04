// Formulas, drawn as nodes: no markup is parsed, no style attribute written.

import katex, { type KatexOptions } from "katex";
import "katex/dist/katex.min.css";

const OPTIONS: KatexOptions = {
  throwOnError: true,
  // No links, no pictures, no classes from formulas.
  trust: false,
  strict: "ignore",
  maxExpand: 300,
  maxSize: 8,
};

/** The part of KaTeX's own trees that is used: they become nodes by themselves. */
type Tree = { children?: Tree[]; attributes?: Record<string, string>; toNode(): Node };
type WithTrees = { __renderToDomTree(source: string, options: KatexOptions): Tree };

/** Groups one inside the other. Reading them takes a time that grows with the square of their depth. */
const MOST_GROUPS = 60;
/** Elements one inside the other. Browsers end a page whose elements lie some thousands deep. */
const MOST_DEPTH = 400;
/** Elements in all. A whole page of formulas has fewer; a browser lays out so many at once. */
const MOST_NODES = 8_000;

function isTooDeep(source: string): boolean {
  let depth = 0;
  for (const letter of source) {
    if (letter === "{") depth += 1;
    else if (letter === "}") depth -= 1;
    if (depth > MOST_GROUPS) return true;
  }
  return false;
}

/** Drawings of brackets have their width twice; as an attribute `style` the page's policy forbids it. */
function plain(tree: Tree): Tree {
  let left = MOST_NODES;
  const visit = (tree: Tree, depth: number): void => {
    left -= 1;
    if (left < 0 || depth > MOST_DEPTH) throw new RangeError("expected a smaller formula");
    if (tree.attributes) delete tree.attributes["style"];
    tree.children?.forEach((inner) => visit(inner, depth + 1));
  };
  visit(tree, 0);
  return tree;
}

/** The formula's nodes; null if it cannot be read. */
export function draw(source: string, isDisplay: boolean): Node | null {
  if (isTooDeep(source)) return null;
  try {
    const tree = (katex as unknown as WithTrees).__renderToDomTree(source, { ...OPTIONS, displayMode: isDisplay });
    return plain(tree).toNode();
  } catch {
    return null;
  }
}
