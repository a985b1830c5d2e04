// A continuation taken apart for showing: what was thought, what was answered, whether it came to an end.

const BEGIN = "<think>";
const END = "</think>";
/** Control tokens that texts are written with; of the models of recipes and of published ones. */
const OVER = /\s*(?:<eos>|<\|?[\w▁｜|]*end[\w▁｜|]*\|?>|<｜end▁of▁sentence｜>)\s*$/;
const BEFORE = /^\s*(?:<bos>|<｜begin▁of▁sentence｜>)\s*/;

export type Said = { thought: string | null; answer: string; hasEnded: boolean; words: number };

export function said(text: string): Said {
  let rest = text.replace(BEFORE, "");
  const hasEnded = OVER.test(rest);
  if (hasEnded) rest = rest.replace(OVER, "");
  const begin = rest.trimStart().startsWith(BEGIN);
  const end = rest.indexOf(END);
  // Templates may have opened the thought already.
  if (!begin && end < 0) return { thought: null, answer: rest.trim(), hasEnded, words: 0 };
  const inner = begin ? rest.trimStart().slice(BEGIN.length) : rest;
  const close = inner.indexOf(END);
  const thought = (close < 0 ? inner : inner.slice(0, close)).trim();
  const answer = close < 0 ? "" : inner.slice(close + END.length).trim();
  return { thought, answer, hasEnded, words: thought === "" ? 0 : thought.split(/\s+/).length };
}

/** A piece of a thought; a self-check is marked, and a new line follows it. */
export type Piece = { text: string; isCheck: boolean };

/** The thought in lines, each ending with a self-check. */
export function attempts(thought: string, checks: readonly string[]): Piece[][] {
  if (checks.length === 0) return thought.split("\n").map((text) => [{ text, isCheck: false }]);
  const own = new Set(checks);
  const lines: Piece[][] = [];
  let line: Piece[] = [];
  let run = "";
  for (const word of thought.split(/\s+/)) {
    if (!own.has(word)) {
      run += `${word} `;
      continue;
    }
    if (run !== "") line.push({ text: run, isCheck: false });
    line.push({ text: word, isCheck: true });
    lines.push(line);
    [line, run] = [[], ""];
  }
  if (run.trim() !== "") line.push({ text: run, isCheck: false });
  if (line.length > 0) lines.push(line);
  return lines;
}
