// Style sheets: views are loaded when they are first looked at and their sheets stay, so what one view's
// sheet says must never meet what another view draws.

import { readdirSync, readFileSync } from "node:fs";
import ts from "typescript";
import { expect, test } from "vitest";

const VIEWS = ["chat", "models", "runs"];
const ROOT = new URL("../../src/", import.meta.url);

const texts = (kind: RegExp): [string, string][] =>
  (readdirSync(ROOT, { recursive: true }) as string[])
    .filter((path) => kind.test(path))
    .map((path) => [path, readFileSync(new URL(path, ROOT), "utf8")]);
const roomOf = (path: string): string => path.slice(0, path.indexOf("/"));

/** What each sheet selects, one selector after the other. */
const selectors = texts(/\.css$/).flatMap(([path, text]) =>
  [...text.replace(/\/\*.*?\*\//gs, "").matchAll(/([^{};]+)\{/g)]
    .flatMap(([, found = ""]) => (found.trim().startsWith("@") ? [] : found.split(",")))
    .map((one) => one.trim())
    .filter((one) => !/^(from$|to$|:root|\d)/.test(one))
    .map((selector) => ({ path, selector })),
);
const classes = (selector: string): string[] =>
  [...selector.replace(/:not\([^)]*\)/g, "").matchAll(/\.([a-z][\w-]*)/gi)].map(([, name = ""]) => name);

/** Words that stand in `class` attributes of a room, or are put together to one. */
const worn = new Map<string, Set<string>>();
for (const [path, text] of texts(/\.tsx$/)) {
  const own = worn.get(roomOf(path)) ?? new Set();
  for (const [, plain = "", made = ""] of text.matchAll(/class=(?:"([^"]*)"|\{((?:[^{}]|\{[^{}]*\})*)\})/g)) {
    const strings = [...made.matchAll(/"([^"]*)"|`([^`]*)`/g)].map(([, quoted = "", template = ""]) => quoted + template.replace(/\$\{[^}]*\}/g, " "));
    for (const word of [plain, ...strings].join(" ").split(/\s+/)) own.add(word);
  }
  worn.set(roomOf(path), own);
}

test("sheets and what wears their classes are found", () => {
  expect(selectors.length).toBeGreaterThan(300);
  for (const room of [...VIEWS, "ui", "app"]) expect(worn.get(room)?.size, room).toBeGreaterThan(5);
});

test("what a view's sheet selects is in no other view", () => {
  const meets = selectors.filter(({ path, selector }) => {
    const room = roomOf(path);
    if (!VIEWS.includes(room)) return false;
    const others = [...worn].filter(([other]) => other !== room);
    // One class that nobody else wears keeps the whole selector at home.
    return classes(selector).every((name) => others.some(([, own]) => own.has(name)));
  });
  expect(meets).toEqual([]);
});

/** Words of the string literals of a source: where a class can come from. Names of modules are none. */
function literals(text: string): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) return;
    if (ts.isStringLiteral(node) || ts.isTemplateLiteralToken(node)) found.push(...node.text.split(/\s+/));
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile("own.tsx", text, ts.ScriptTarget.ES2022));
  return found;
}

test("every class that is selected is in the sources", () => {
  const sources = texts(/\.tsx?$/).filter(([path]) => roomOf(path) !== "i18n");
  const words = new Set(sources.flatMap(([, text]) => literals(text)));
  // Made by libraries, or of a number.
  const isForeign = (name: string): boolean => /^(katex$|(hljs|katex|u|level)-)/.test(name);
  const dead = selectors.filter(({ selector }) => classes(selector).some((name) => !words.has(name) && !isForeign(name)));
  expect(dead).toEqual([]);
});
