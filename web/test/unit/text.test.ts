import { describe, expect, test } from "vitest";
import type { Token, Tokens } from "marked";
import { lex, type MathToken, unnamed } from "../../src/text/lex";
import { safeAddress } from "../../src/text/links";
import { References } from "../../src/text/references";
import { codeOf, Cutter, type Segment, segments } from "../../src/text/segments";

const texts = (source: string): string[] => segments(source).map(({ segment }) => segment.text);

/** The kinds of tokens, those inside in brackets. */
function kinds(tokens: readonly Token[]): string {
  return tokens
    .filter((token) => token.type !== "space")
    .map((token) => {
      const inner = (token as Tokens.Strong).tokens;
      return inner && inner.some((one) => one.type !== "text") ? `${token.type}(${kinds(inner)})` : token.type;
    })
    .join(" ");
}

describe("a text is cut where nothing belongs together", () => {
  test("paragraphs, lists, code and formulas", () => {
    const rows: [string, string[]][] = [
      ["a\nb\n\nc", ["a\nb\n\n", "c"]],
      ["- a\n\n- b\n\n  more\n\nend", ["- a\n\n- b\n\n  more\n\n", "end"]],
      ["1. a\n\n   ```\n   x\n\n   y\n   ```\n\n2. b", ["1. a\n\n   ```\n   x\n\n   y\n   ```\n\n2. b"]],
      ["text\n```js\nx\n\ny\n```\nmore", ["text\n", "```js\nx\n\ny\n```\n", "more"]],
      ["$$\na\n\nb\n$$\n\nc", ["$$\na\n\nb\n$$\n\n", "c"]],
      ["> a\n>\n> b\n\nc", ["> a\n>\n> b\n\n", "c"]],
      ["- a\n```\nx\n```\nb", ["- a\n", "```\nx\n```\n", "b"]],
      ["\n\n", []],
    ];
    for (const [source, parts] of rows) {
      const given = texts(source);
      expect(given.map((part) => part.trim()), source).toEqual(parts.map((part) => part.trim()));
    }
  });

  test("blocks of code know their language, and whether they have ended", () => {
    const [open] = segments("~~~~ Rust x\nlet a = `b`;\n~~~\n");
    expect(open?.segment.fence).toEqual({ language: "Rust", isClosed: false });
    expect(codeOf(open!.segment)).toBe("let a = `b`;\n~~~");
    const [closed] = segments("```\na\n\nb\n```");
    expect(closed?.segment.fence?.isClosed).toBe(true);
    expect(codeOf(closed!.segment)).toBe("a\n\nb");
    expect(codeOf(segments("```\n```")[0]!.segment)).toBe("");
  });

  test("a growing text gives what the whole text gives, and keeps what is settled", () => {
    const source = "# a\n\nb **c**\n\n- d\n- e\n\n```py\nf\n\ng\n```\n\n$$\nh\n$$\n\n| a |\n|---|\n| b |\n";
    const cutter = new Cutter();
    let before: unknown;
    for (let end = 1; end <= source.length; end += 1) {
      const grown = cutter.cut(source.slice(0, end));
      expect(grown).toEqual(segments(source.slice(0, end)).map(({ segment }) => segment));
      if (end > 10) expect(grown[0]).toBe(before ?? grown[0]);
      before = grown.length > 1 ? grown[0] : before;
    }
    expect(cutter.cut("other").map(({ text }) => text)).toEqual(["other"]);
  });
});

describe("Markdown", () => {
  test("formulas are told from money", () => {
    const rows: [string, string][] = [
      ["$x^2$ and \\(y\\)", "paragraph(math text math)"],
      ["it costs $5 and $10", "paragraph"],
      ["$$a$$", "math"],
      ["\\[\na\n\\]", "math"],
      ["a $$b$$ c", "paragraph(text math text)"],
      ["`$a$`", "paragraph(codespan)"],
    ];
    for (const [source, expected] of rows) expect(kinds(lex(source)), source).toBe(expected);
    const [token] = lex("$$\n\\frac{1}{2}\n$$") as unknown as MathToken[];
    expect(token).toMatchObject({ source: "\\frac{1}{2}", isDisplay: true });
  });

  test("what is too deep, too long or too tangled stays text, and quickly", () => {
    const hostile = [
      ">".repeat(50_000),
      Array.from({ length: 400 }, (_, at) => `${"  ".repeat(at)}- x`).join("\n"),
      "[".repeat(50_000),
      "*a_".repeat(20_000),
      "`".repeat(30_001),
      "![[".repeat(10_000),
      "$a ".repeat(20_000),
      `${"<a ".repeat(10_000)}`,
      "x".repeat(500_000),
    ];
    for (const source of hostile) {
      const began = performance.now();
      expect(lex(source).map(({ raw }) => raw).join("")).not.toBe("");
      expect(performance.now() - began, source.slice(0, 9)).toBeLessThan(1500);
    }
  });

  test("named characters become what they name, once", () => {
    expect(unnamed("a &lt;b&gt; &amp;lt; &#65;&#x42; &nothing; &#0; &#xD800;")).toBe("a <b> &lt; AB &nothing; &#0; &#xD800;");
  });
});

test("links lead to the web and to mail only", () => {
  const yes = ["https://a.b/c?d#e", "http://a", "mailto:a@b.c", "HTTPS://a.b"];
  const no = ["javascript:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "vbscript:x", "/v1/models", "//a.b", "blob:https://a/b", "file:///etc/passwd", ""];
  for (const address of yes) expect(safeAddress(address), address).not.toBeNull();
  for (const address of no) expect(safeAddress(address), address).toBeNull();
});

describe("links by reference", () => {
  /** Where the links of a text lead, as it stands after each piece. */
  function targets(references: References, parts: readonly Segment[], settled = parts.length): (string | undefined)[][] {
    references.take(parts.slice(0, settled));
    return parts.map((segment) => {
      const paragraphs = lex(segment.text, references.of(segment)).flatMap((token) => (token as Tokens.Paragraph).tokens ?? []);
      return paragraphs.filter(({ type }) => type === "link").map((token) => (token as Tokens.Link).href);
    });
  }
  const cut = (source: string): Segment[] => segments(source).map(({ segment }) => segment);

  test("lead where any other paragraph says, the first one that does", () => {
    const parts = cut("[a]: https://one.example\n\nsee [words][a], [A ][], [a] and [b  C]\n\n[a]: https://two.example\n[B c]: <https://three.example> 'title'\n");
    expect(targets(new References(), parts)[1]).toEqual(["https://one.example", "https://one.example", "https://one.example", "https://three.example"]);
    expect(targets(new References(), cut("[x] [y][__proto__]\n\n```\n[x]: https://no.example\n```\n"))[0]).toEqual([]);
  });

  test("lead there once the definition has come, and what names nothing new is left alone", () => {
    const references = new References();
    const parts = cut("see [a]\n\nsee [b]\n\n[a]: https://one.example\n\nend");
    expect(targets(references, parts, 2)).toEqual([[], [], [], []]);
    const before = parts.map((segment) => references.of(segment));
    expect(targets(references, parts, 3)).toEqual([["https://one.example"], [], [], []]);
    expect(references.of(parts[1]!)).toBe(before[1]);
    expect(references.of(parts[0]!)).not.toBe(before[0]);
    // Another text begins anew.
    expect(targets(references, cut("see [a]\n\nend"))).toEqual([[], []]);
  });

  test("thousands of them take no time", () => {
    const references = new References();
    const parts = cut(Array.from({ length: 1500 }, (_, at) => `see [a${at}]\n\n[a${at}]: https://one.example/${at}\n\n`).join(""));
    const began = performance.now();
    for (let settled = 0; settled <= parts.length; settled += 150) {
      references.take(parts.slice(0, settled));
      parts.forEach((segment) => references.of(segment));
    }
    expect(performance.now() - began).toBeLessThan(3000);
    expect(references.of(parts[2000]!)).toEqual({ a1000: { href: "https://one.example/1000", title: undefined } });
  });
});
