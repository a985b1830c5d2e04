// Markdown to nodes. What a model wrote becomes text nodes inside elements of ours and nothing else:
// HTML is shown as it is written, pictures are named but never fetched, links go by a list of schemes.

import type { ComponentChild, ComponentChildren } from "preact";
import type { Token, Tokens } from "marked";
import { useMemo, useState } from "preact/hooks";
import { Button } from "../ui/index";
import { CodeBlock } from "./code";
import { type Definitions, lex, type MathToken, unnamed } from "./lex";
import { safeAddress } from "./links";
import { MathNode } from "./math";
import { memo } from "./memo";
import { References } from "./references";
import { codeOf, Cutter, type Segment } from "./segments";
import { words } from "./words";
import "./text.css";

/** Beyond this, what is nested is shown as it is written. */
const MOST_DEPTH = 20;
const ROWS_AT_FIRST = 200;

/** A text of Markdown. While it grows, only its last stretch is read and drawn again. */
export function Markdown({ source, isGrowing = false }: { source: string; isGrowing?: boolean }) {
  const [cutter] = useState(() => new Cutter());
  const [references] = useState(() => new References());
  const segments = cutter.cut(source);
  const last = segments.length - 1;
  // An address that is half written leads nowhere yet.
  references.take(isGrowing ? segments.slice(0, last) : segments);
  return (
    <div class="prose">
      {segments.map((segment, at) => (
        <Stretch key={at} segment={segment} known={references.of(segment)} isGrowing={isGrowing && at === last} />
      ))}
    </div>
  );
}

const Stretch = memo(
  function Stretch({ segment, known, isGrowing }: { segment: Segment; known: Definitions; isGrowing: boolean }) {
    if (segment.fence)
      return <CodeBlock code={codeOf(segment)} language={segment.fence.language} isGrowing={isGrowing && !segment.fence.isClosed} />;
    return <Read source={isGrowing ? withoutOpenFormula(segment.text) : segment.text} known={known} />;
  },
  (old, now) =>
    old.segment.text === now.segment.text &&
    old.segment.fence?.isClosed === now.segment.fence?.isClosed &&
    old.known === now.known &&
    old.isGrowing === now.isGrowing,
);

/** A display formula that is being written is shown once it is whole. */
function withoutOpenFormula(text: string): string {
  const inside = text.lastIndexOf("\\[") > text.lastIndexOf("\\]") ? text.lastIndexOf("\\[") : -1;
  const isOdd = text.split("$$").length % 2 === 0;
  const at = isOdd ? text.lastIndexOf("$$") : inside;
  return at < 0 || text.length - at > 1_500 ? text : text.slice(0, at);
}

function Read({ source, known }: { source: string; known: Definitions }) {
  const tokens = useMemo(() => lex(source, known), [source, known]);
  return <>{blocks(tokens, 0)}</>;
}

const blocks = (tokens: readonly Token[] | undefined, depth: number): ComponentChildren =>
  tokens?.map((token) => block(token, depth));

function block(token: Token, depth: number): ComponentChild {
  if (depth > MOST_DEPTH) return <AsWritten text={token.raw} />;
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "hr":
      return <hr />;
    case "heading": {
      // The page's own headings come first, and few answers begin with their highest.
      const { depth: level, tokens } = token as Tokens.Heading;
      const Tag = `h${Math.min(6, Math.max(3, level))}` as "h3";
      return (
        <Tag class={`level-${level}`} dir="auto">
          {inlines(tokens, depth)}
        </Tag>
      );
    }
    case "paragraph":
      return <p dir="auto">{inlines((token as Tokens.Paragraph).tokens, depth)}</p>;
    case "code": {
      const { text, lang } = token as Tokens.Code;
      return <CodeBlock code={text} language={(lang ?? "").split(/\s+/)[0] ?? ""} isGrowing={false} />;
    }
    case "blockquote":
      return <blockquote dir="auto">{blocks((token as Tokens.Blockquote).tokens, depth + 1)}</blockquote>;
    case "list":
      return list(token as Tokens.List, depth);
    case "table":
      return <GivenTable token={token as Tokens.Table} depth={depth} />;
    case "math":
      return <MathNode source={(token as unknown as MathToken).source} isDisplay />;
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return tokens ? <>{inlines(tokens, depth)}</> : <AsWritten text={unnamed(text)} />;
    }
    default:
      return <AsWritten text={token.raw.trimEnd()} />;
  }
}

/** A text that is not read as Markdown. */
export function AsWritten({ text }: { text: string }) {
  return (
    <p class="as-written" dir="auto">
      {text}
    </p>
  );
}

function list({ ordered, start, items }: Tokens.List, depth: number): ComponentChild {
  const entries = items.map((item) => (
    <li class={item.task ? "task" : undefined}>
      {item.task && <input type="checkbox" checked={item.checked ?? false} disabled aria-label={words.value.task} />}
      {blocks(item.tokens, depth + 1)}
    </li>
  ));
  if (!ordered) return <ul dir="auto">{entries}</ul>;
  return (
    <ol dir="auto" start={Number(start) || 1}>
      {entries}
    </ol>
  );
}

function GivenTable({ token, depth }: { token: Tokens.Table; depth: number }) {
  const [most, setMost] = useState(ROWS_AT_FIRST);
  const { header, rows, align } = token;
  const side = (at: number) => (align[at] ? { textAlign: align[at] as "left" } : undefined);
  const hidden = rows.length - most;
  return (
    <>
      <div class="given-table" tabIndex={0} role="region" aria-label={words.value.table}>
        <table dir="auto">
          <thead>
            <tr>
              {header.map((cell, at) => (
                <th scope="col" style={side(at)}>
                  {inlines(cell.tokens, depth)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, most).map((row) => (
              <tr>
                {row.map((cell, at) => (
                  <td style={side(at)}>{inlines(cell.tokens, depth)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {hidden > 0 && (
        <Button small onClick={() => setMost(most * 5)}>
          {words.value.more_rows(hidden)}
        </Button>
      )}
    </>
  );
}

const inlines = (tokens: readonly Token[] | undefined, depth: number): ComponentChildren =>
  tokens?.map((token) => inline(token, depth + 1));

function inline(token: Token, depth: number): ComponentChild {
  if (depth > MOST_DEPTH) return token.raw;
  const inner = (): ComponentChildren => inlines((token as Tokens.Strong).tokens, depth);
  switch (token.type) {
    case "strong":
      return <strong>{inner()}</strong>;
    case "em":
      return <em>{inner()}</em>;
    case "del":
      return <del>{inner()}</del>;
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>;
    case "br":
      return <br />;
    case "link":
      return link(token as Tokens.Link, inner());
    case "image":
      return picture(token as Tokens.Image);
    case "math": {
      const { source, isDisplay } = token as unknown as MathToken;
      return <MathNode source={source} isDisplay={isDisplay} />;
    }
    case "escape":
      return (token as Tokens.Escape).text;
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return tokens ? <>{inlines(tokens, depth)}</> : unnamed(text);
    }
    default:
      // Of HTML only the break is meant: tables have no other.
      return /^<br\s*\/?>$/i.test(token.raw) ? <br /> : token.raw;
  }
}

function link({ href, raw }: Tokens.Link, inner: ComponentChildren): ComponentChild {
  const address = safeAddress(href);
  if (address === null) return raw;
  return (
    <a href={address} title={address} target="_blank" rel="noopener noreferrer nofollow">
      {inner}
    </a>
  );
}

/** Fetching one would tell its host who reads this; so it is only said where it would be. */
function picture({ href, text }: Tokens.Image): ComponentChild {
  return (
    <span class="picture">
      {words.value.picture(text)} <span class="mono">{href}</span>
    </span>
  );
}
