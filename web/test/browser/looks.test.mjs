// What everyone must be able to use: axe finds nothing serious, in both schemes, on both sizes; and
// the first load stays small.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { answerWith, ask, browse, serve, skip, stream } from "./page.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const BUDGET_BYTES = 300_000;

const ANSWER = "## Why\n\nBecause $x^2$ is *even*.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet x = 1;\n```\n\n- [link](https://example.org/)";

/** Serious faults in what is shown now. */
async function serious(page) {
  await page.addScriptTag({ content: axe });
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
}

describe("looks", { skip }, () => {
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

  for (const size of ["desktop", "phone"]) {
    for (const scheme of ["light", "dark"]) {
      test(`axe finds nothing serious: ${size}, ${scheme}`, { timeout: 120_000 }, async () => {
        // The page's policy would not let axe in; that it holds is tested elsewhere.
        const { page } = await browser.open(server.url, { size, scheme, bypassCSP: true });
        await answerWith(page, stream({ thought: "let me see", answer: ANSWER }));
        const seen = {};
        const look = async (name) => {
          const found = await serious(page);
          if (found.length > 0) seen[name] = found;
        };
        await look("before the first question");
        await ask(page, "why?");
        await page.waitForSelector(".katex");
        await page.click(".thought-toggle");
        await look("an answer");
        await page.click('.composer [aria-haspopup="menu"]');
        await look("a menu");
        await page.keyboard.press("Escape");
        await page.click(".with-count .button");
        await page.waitForSelector("dialog[open]");
        await look("settings");
        await page.keyboard.press("Escape");
        if (size === "phone") {
          await page.click('[aria-label="Open the menu"]');
          await page.waitForSelector("dialog[open] .history");
          await look("the rail");
        }
        assert.deepEqual(seen, {});
      });
    }
  }

  test("nothing is wider than a phone", async () => {
    const { page } = await browser.open(server.url, { size: "phone" });
    await answerWith(page, stream({ answer: `${ANSWER}\n\n${"x".repeat(3000)}` }));
    await ask(page, "y".repeat(2000));
    const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(inner <= outer, `${inner} in ${outer}`);
  });

  test("the first load is small", async () => {
    const { page } = await browser.open(server.url, { serviceWorkers: "block" });
    const sizes = await page.evaluate(() => performance.getEntriesByType("resource").map((one) => one.encodedBodySize));
    const sum = sizes.reduce((all, size) => all + size, 0);
    assert.ok(sizes.length > 3 && sum > 30_000, `${sizes.length} files, ${sum} bytes`);
    assert.ok(sum < BUDGET_BYTES, `${sum} bytes`);
  });
});
