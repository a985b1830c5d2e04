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

/** Drawings of brackets have their width twice; as an attribute `style` the page's policy forbids it. */
function plain(tree: Tree): Tree {
  if (tree.attributes) delete tree.attributes["style"];
  tree.children?.forEach(plain);
  return tree;
}

/** The formula's nodes; null if it cannot be read. */
export function draw(source: string, isDisplay: boolean): Node | null {
  try {
    const tree = (katex as unknown as WithTrees).__renderToDomTree(source, { ...OPTIONS, displayMode: isDisplay });
    return plain(tree).toNode();
  } catch {
    return null;
  }
}
