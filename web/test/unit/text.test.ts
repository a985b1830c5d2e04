import { describe, expect, test } from "vitest";
import type { Token, Tokens } from "marked";
import { lex, type MathToken, unnamed } from "../../src/text/lex";
import { safeAddress } from "../../src/text/links";
import { codeOf, Cutter, segments } from "../../src/text/segments";

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
