// Cuts a text into stretches that mean the same alone as together: paragraphs, whole lists, whole
// code blocks. One pass over the lines, and while a text grows only its last stretch is looked at
// again; so an answer of any length costs what its last stretch costs.
//
// Cuts may be too few (a stretch of several paragraphs), never inside something that belongs together.

/** A stretch of the source. */
export type Segment = {
  text: string;
  /** Set for a block of code at the outermost level: it needs no Markdown at all. */
  fence: { language: string; isClosed: boolean } | null;
};

const FENCE = /^(\s*)(`{3,}|~{3,})([^`]*)$/;
const ITEM = /^\s{0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;
const MATH = /^\s*(\$\$|\\\[)/;

type Open = { kind: "fence"; mark: string } | { kind: "math"; end: string };

/** Cuts a growing text. Texts given one after another must begin alike, else it starts anew. */
export class Cutter {
  private source = "";
  private done: Segment[] = [];
  /** Where the stretch begins that may still change. */
  private from = 0;

  cut(source: string): Segment[] {
    if (!source.startsWith(this.source)) {
      this.done = [];
      this.from = 0;
    }
    this.source = source;
    const tail = segments(source.slice(this.from));
    const last = tail.pop();
    if (!last) return this.done;
    // All but the last are settled; of the last only where it begins.
    if (tail.length > 0) this.done = [...this.done, ...tail.map(({ segment }) => segment)];
    this.from += last.at;
    return [...this.done, last.segment];
  }
}

type Placed = { segment: Segment; at: number };

/** All stretches, and where each begins. */
export function segments(source: string): Placed[] {
  const out: Placed[] = [];
  let begin = 0;
  let isList = false;
  let isBlank = true;
  let open: Open | null = null;
  let fence: Segment["fence"] = null;

  const end = (at: number): void => {
    const text = source.slice(begin, at);
    if (text.trim() !== "") out.push({ segment: { text, fence }, at: begin });
    begin = at;
    isList = false;
    fence = null;
  };

  for (let at = 0; at < source.length; ) {
    const newline = source.indexOf("\n", at);
    const next = newline < 0 ? source.length : newline + 1;
    // What decides stands at the beginning of a line; lines of a million characters are not looked at whole.
    const line = source.slice(at, Math.min(newline < 0 ? source.length : newline, at + 400));

    if (open) {
      if (open.kind === "fence" ? closes(line, open.mark) : line.includes(open.end)) {
        open = null;
        if (fence) {
          (fence as NonNullable<Segment["fence"]>).isClosed = true;
          end(next);
          isBlank = true;
          at = next;
          continue;
        }
      }
    } else {
      const mark = FENCE.exec(line);
      const goesOn = begin !== at && (isList ? ITEM.test(line) || /^\s/.test(line) : /^(?: {2}|\t)/.test(line));
      if (mark) {
        const indent = mark[1]?.length ?? 0;
        const isOuter = indent === 0 || (!isList && indent < 4);
        if (isOuter) {
          end(at);
          fence = { language: (mark[3] ?? "").trim().split(/\s+/)[0] ?? "", isClosed: false };
        }
        open = { kind: "fence", mark: mark[2] ?? "```" };
      } else if (line.trim() !== "") {
        if (isBlank && !goesOn) end(at);
        if (begin === at) isList = ITEM.test(line);
        open = mathOf(line);
      }
    }
    isBlank = line.trim() === "";
    at = next;
  }
  end(source.length);
  return out;
}

function closes(line: string, mark: string): boolean {
  const text = line.trim();
  return text.length >= mark.length && text === (mark[0] ?? "`").repeat(text.length);
}

/** Formulas that begin a line and are not closed on it. */
function mathOf(line: string): Open | null {
  const mark = MATH.exec(line)?.[1];
  if (mark === undefined) return null;
  const end = mark === "$$" ? "$$" : "\\]";
  const rest = line.slice(line.indexOf(mark) + mark.length);
  return rest.includes(end) ? null : { kind: "math", end };
}

/** The code of a stretch that is a block of code. */
export function codeOf(segment: Segment): string {
  const first = segment.text.indexOf("\n");
  if (first < 0) return "";
  const code = segment.text.slice(first + 1).replace(/\n$/, "");
  return segment.fence?.isClosed ? code.slice(0, Math.max(0, code.lastIndexOf("\n"))) : code;
}
