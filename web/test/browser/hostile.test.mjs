// Whatever a model writes: nothing of it runs, nothing of it is loaded, and the page does not hang.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { answerWith, ask, browse, serve, skip, stream } from "./page.mjs";

const MARKUP = `<script>window.ran = 1</script>
<img src="https://evil.invalid/a.png" onerror="window.ran = 2"> <svg onload="window.ran = 3"></svg>
<iframe src="https://evil.invalid/"></iframe><style>* { display: none }</style>
<base href="https://evil.invalid/"><meta http-equiv="refresh" content="0;url=https://evil.invalid/">
<form action="https://evil.invalid/"><button autofocus onfocus="window.ran = 4">x</button></form>

![remote](https://evil.invalid/b.png) ![inline](data:image/svg+xml,<svg onload=alert(1)>)

[a](javascript:window.ran=5) [b](JaVaScRiPt:alert(1)) [c](data:text/html,<script>1</script>) [d](vbscript:x)
[e](//evil.invalid/) [f](/v1/models) [g](file:///etc/passwd) <javascript:alert(1)> [ok](https://example.org/) [mail](mailto:a@b.c)

[ref]: javascript:alert(1)
[ref] &lt;script&gt; &#106;avascript: \`<b>code</b>\`

$\\href{javascript:alert(1)}{x}$ $\\includegraphics{https://evil.invalid/c.png}$ $\\htmlData{a=b}{x}$ $\\def\\a{\\a\\a}\\a$

$$\\sqrt{\\frac{a}{b}} \\left( \\begin{matrix} 1 & 2 \\\\ 3 & 4 \\end{matrix} \\right) \\overbrace{x}^{n}$$

| a |
|---|
| <img src=x onerror=alert(1)> |

\`\`\`html"><img src=x onerror=alert(1)>
<script>window.ran = 6</script>
\`\`\`
`;

const LARGE = {
  "quotes in quotes": ">".repeat(60_000),
  "lists in lists": Array.from({ length: 700 }, (_, at) => `${"  ".repeat(at)}- x`).join("\n"),
  "open brackets": `${"[".repeat(40_000)}\n\n${"*a_".repeat(15_000)}\n\n${"![[".repeat(10_000)}`,
  "open formulas": `${" $a".repeat(20_000)}\n\n${"\\(x ".repeat(10_000)}\n\n${"$$ ".repeat(5_001)}`,
  "one long line": `${"x".repeat(500_000)}\n\n${"word ".repeat(50_000)}`,
  "a giant table": `| a | b |\n|---|---|\n${"| **1** | `2` |\n".repeat(5_000)}`,
  "an open fence": `\`\`\`python\n${'print("hello")  # x\n'.repeat(15_000)}`,
};

describe("hostile answers", { skip }, () => {
  let server;
  let browser;
  before(async () => {
    server = await serve();
    browser = await browse();
  });
  after(async () => {
    await browser?.stop();
    server?.stop();
  });

  test("nothing runs, nothing is loaded, links go by a list of schemes", async () => {
    const { page, faults } = await browser.open(server.url);
    await answerWith(page, stream({ thought: MARKUP, answer: MARKUP }));
    await ask(page, MARKUP);
    await page.click(".thought-toggle");
    await page.waitForSelector(".katex");
    await page.waitForTimeout(500);
    assert.equal(await page.evaluate(() => window.ran), undefined);
    const made = "img, iframe, object, embed, form:not(.composer), style, base, meta[http-equiv]";
    assert.equal(await page.locator(made).count(), 0);
    const addresses = await page.locator(".prose a").evaluateAll((all) => all.map((one) => one.getAttribute("href")));
    assert.ok(addresses.length > 0 && addresses.every((one) => /^(?:https:\/\/example\.org\/|mailto:a@b\.c)$/.test(one)), String(addresses));
    const link = page.locator('.prose a[href^="https"]').first();
    assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
    assert.deepEqual(faults, []);
  });

  for (const [name, answer] of Object.entries(LARGE)) {
    test(`${name} do not hang the page`, { timeout: 60_000 }, async () => {
      const { page, context, faults } = await browser.open(server.url);
      await answerWith(page, stream({ answer, pieces: 60 }));
      await ask(page, "x");
      const began = Date.now();
      await page.fill(".composer textarea", "still here");
      assert.ok(Date.now() - began < 5_000, "typing takes too long");
      assert.deepEqual(faults, []);
      await context.close();
    });
  }
});
