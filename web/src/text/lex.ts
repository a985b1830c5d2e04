// A stretch of Markdown to marked's tokens, within bounds: what is too deep, too long or too tangled
// stays the text it is, so that nothing a model writes makes the page hang.

import { Lexer, Marked, type Token, type TokenizerAndRendererExtension } from "marked";

/** Characters of one stretch that are read as Markdown. */
const MOST = 100_000;
/** Characters of one paragraph or cell within which emphasis and links are looked for. */
const MOST_INLINE = 20_000;
/** Marks of emphasis, links and code in one paragraph: looking for partners is quadratic in them. */
const MOST_MARKS = 1_500;
/** Quotes and lists one inside the other. */
const MOST_DEPTH = 24;

const TOO_DEEP = new RegExp(`^(?:[ \\t]*(?:>|[-*+](?=[ \\t>])|\\d{1,9}[.)](?=[ \\t>]))){${MOST_DEPTH},}`, "m");
const FAR_IN = /^[ \t]{200,}\S/m;

/** A formula. */
export type MathToken = { type: "math"; raw: string; source: string; isDisplay: boolean };

const BLOCK_MATH = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/;
const INLINE_MATH = /^(?:\$\$([^$]+?)\$\$|\$(?![\s$])((?:\\.|[^$\\\n])*?[^\s$\\]|\\.)\$(?![\d$])|\\\(([\s\S]+?)\\\)|\\\[([\s\S]+?)\\\])/;

const math = (match: RegExpExecArray | null): MathToken | undefined => {
  if (!match) return undefined;
  const [raw, ...found] = match;
  const at = found.findIndex((one) => one !== undefined);
  // Of the ways to write one inline, the first and the last ask for a line of their own.
  return { type: "math", raw, source: (found[at] ?? "").trim(), isDisplay: found.length === 2 || at === 0 || at === 3 };
};

const EXTENSIONS: TokenizerAndRendererExtension[] = [
  {
    name: "math",
    level: "block",
    start: (text) => {
      const at = text.search(/\n {0,3}(?:\$\$|\\\[)/);
      return at < 0 ? undefined : at + 1;
    },
    tokenizer: (text) => math(BLOCK_MATH.exec(text)),
  },
  {
    name: "inline-math",
    level: "inline",
    start: (text) => {
      const at = text.search(/\$|\\[([]/);
      return at < 0 ? undefined : at;
    },
    tokenizer: (text) => math(INLINE_MATH.exec(text)),
  },
];

const marked = new Marked({ gfm: true });
marked.use({ extensions: EXTENSIONS });

const asText = (text: string): Token => ({ type: "text", raw: text, text, escaped: false });

function isTangled(text: string): boolean {
  if (text.length > MOST_INLINE) return true;
  let marks = 0;
  for (let at = 0; at < text.length; at += 1) {
    if ("*_[]`~<$\\&!".includes(text[at] ?? "")) marks += 1;
  }
  return marks > MOST_MARKS;
}

/** Where links by reference lead, by their labels. */
export type Definitions = Readonly<Record<string, { href: string; title?: string | null | undefined }>>;

const isBeyond = (source: string): boolean => source.length > MOST || TOO_DEEP.test(source) || FAR_IN.test(source);

/** Reads what a stretch is made of, and what it defines, but nothing within its lines. */
function blocksOf(source: string, known: Definitions): Lexer {
  const lexer = new Lexer(marked.defaults);
  Object.assign(lexer.tokens.links, known);
  lexer.blockTokens(source.replace(/\r\n?/g, "\n"), lexer.tokens);
  return lexer;
}

/** What a stretch defines. */
export function definitionsIn(source: string): Definitions {
  if (!source.includes("]:") || isBeyond(source)) return {};
  try {
    return blocksOf(source, {}).tokens.links;
  } catch {
    return {};
  }
}

/** The tokens of a stretch; `known` is what other stretches define. */
export function lex(source: string, known: Definitions = {}): Token[] {
  if (isBeyond(source)) return [asText(source)];
  try {
    const lexer = blocksOf(source, known);
    // marked's own way is to go through this queue without looking at what is in it.
    for (const { src, tokens } of lexer.inlineQueue) {
      if (isTangled(src)) tokens.push(asText(src));
      else lexer.inlineTokens(src, tokens);
    }
    return lexer.tokens;
  } catch {
    // Nested beyond what the stack holds.
    return [asText(source)];
  }
}

const NAMED: Record<string, string> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  ndash: "–",
  mdash: "—",
  hellip: "…",
  times: "×",
  divide: "÷",
  le: "≤",
  ge: "≥",
  ne: "≠",
  plusmn: "±",
  deg: "°",
  middot: "·",
  copy: "©",
  reg: "®",
  larr: "←",
  rarr: "→",
};

/** Markdown lets characters be named; as there is no HTML here, names are read by us. */
export function unnamed(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z]{2,8}));/g, (whole, decimal, hex, name) => {
    if (name !== undefined) return NAMED[name as string] ?? whole;
    const code = decimal !== undefined ? Number(decimal) : parseInt(hex as string, 16);
    return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : whole;
  });
}
