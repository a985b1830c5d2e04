// Runs on the page: what a folder holds is shown as it grows, whatever is in it, on every size and in
// every language, by keyboard too.

import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { browse, serve, skip as noPage } from "./page.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// A server that runs already knows nothing of the folder that is made here.
const skip = noPage ?? (process.env.PAGE ? "expected FRUGAL and FRUGAL_MODEL" : undefined);

const RECIPE = `
name = "small"
about = "A small run, <b>not bold</b>."
seed = 3
reference_minutes = 1.0
[task]
name = "countdown"
[model.main]
hidden_size = 32
num_attention_heads = 2
num_key_value_heads = 2
[[stage]]
name = "base"
kind = "pretrain"
model = "main"
steps = 400
min_steps = 1
[[stage]]
name = "r1-zero"
kind = "grpo"
from = "base"
steps = 40
min_steps = 1
[[stage]]
name = "evaluation"
kind = "eval"
`;

const HOSTILE = '<think> <img src="https://evil.invalid/x.png" onerror="window.ran=1"> no </think> <script>window.ran=2</script> <eos>';
const ESTIMATE = { value: 0.5, low: 0.4, high: 0.6 };
const SCORE = { problems: 9, pass_at_1: ESTIMATE, greedy: ESTIMATE, pass_at_8: ESTIMATE, majority_at_8: ESTIMATE };

const lines = (all) => all.map((line) => `${JSON.stringify(line)}\n`).join("");
const step = (at) => ({
  stage: "base",
  kind: "pretrain",
  step: at,
  loss: 5 / (at + 1),
  accuracy: at / 1000,
  ...(at % 10 === 0 ? { expert_load: [[0.1, 0.2, 0.3, 0.4]] } : {}),
});
const timing = (at) => ({ stage: "base", step: at, seconds: 0.1, tokens_trained: 100, tokens_generated: 0 });
const upTo = (n, of) => lines(Array.from({ length: n }, (_, at) => of(at)));

describe("runs", { skip }, () => {
  let runs;
  let folder;
  let server;
  let browser;
  before(async () => {
    runs = mkdtempSync(join(tmpdir(), "frugal-runs-"));
    folder = join(runs, "one");
    mkdirSync(folder);
    writeFileSync(join(folder, "recipe.toml"), RECIPE);
    // A home of its own: other runs of this machine are none of this test.
    server = await serve("--runs", runs, "--home", join(runs, ".home"));
    browser = await browse();
  });
  after(async () => {
    await browser?.stop();
    server?.stop();
    rmSync(runs, { recursive: true, force: true });
  });
  beforeEach(() => {
    writeFileSync(join(folder, "journal.jsonl"), upTo(120, step));
    writeFileSync(join(folder, "timings.jsonl"), upTo(120, timing));
    const asked = (checkpoint, correct) => ({ stage: "evaluation", checkpoint, question: "1 2 make 3", text: HOSTILE, correct });
    const taught = { stage: "r1-zero", step: 5, question: "<b>q</b>", text: "3 <eos>", reward: 0 };
    writeFileSync(join(folder, "samples.jsonl"), lines([asked("base", false), asked("r1-zero", true), taught]));
    const score = { stage: "evaluation", kind: "eval", step: 0, checkpoint: "base", score: SCORE };
    appendFileSync(join(folder, "journal.jsonl"), lines([score]));
  });

  const look = async (how) => {
    const opened = await browser.open(server.url, how);
    await opened.page.evaluate(() => (location.hash = "#/runs"));
    return opened;
  };
  const enter = async (how) => {
    const opened = await look(how);
    const name = opened.page.locator("main a", { hasText: "one" }).locator("visible=true").first();
    await name.click();
    await opened.page.waitForSelector(".curve canvas");
    return opened;
  };
  const read = (page) => page.locator('.curve [role="slider"]').first().getAttribute("aria-valuetext");

  test("a run is found, its curves are drawn, and keys read them", { timeout: 90_000 }, async () => {
    const { page, faults } = await enter();
    assert.equal(await page.locator(".about").innerText(), "A small run, <b>not bold</b>.");
    assert.ok((await page.locator(".curve canvas").count()) >= 3);
    await page.waitForSelector(".heat canvas");
    const last = await read(page);
    await page.locator('.curve [role="slider"]').first().focus();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("ArrowLeft");
    await page.waitForFunction((last) => document.querySelector('.curve [role="slider"]').getAttribute("aria-valuetext") !== last, last);
    await page.locator(".strip button", { hasText: "base" }).first().click();
    await page.waitForFunction(() => document.querySelector('.curve [role="slider"]').getAttribute("aria-valuemax") === "120");
    await page.getByRole("radio", { name: "Tables" }).click();
    assert.ok((await page.locator(".curve-table tbody tr").count()) > 10);
    assert.deepEqual(faults, []);
  });

  test("what is written comes by itself, and what was cut back goes", { timeout: 90_000 }, async () => {
    const { page, faults } = await enter();
    const bar = page.locator(".strip li", { hasText: "base" }).first();
    await page.waitForFunction(() => document.querySelector(".strip").innerText.includes("120 / 400"));
    const journal = join(folder, "journal.jsonl");
    appendFileSync(journal, lines(Array.from({ length: 30 }, (_, at) => step(120 + at))));
    await page.waitForFunction(() => document.querySelector(".strip").innerText.includes("150 / 400"));
    truncateSync(journal, Buffer.byteLength(upTo(60, step)));
    await page.waitForFunction(() => document.querySelector(".curve [role=slider]").getAttribute("aria-valuetext").includes("5.9"));
    assert.ok(await bar.isVisible());
    assert.deepEqual(faults, []);
  });

  test("what models said is text, and is followed and filtered", { timeout: 90_000 }, async () => {
    const { page, faults } = await enter();
    await page.getByRole("tab", { name: "Thinking" }).click();
    await page.waitForSelector(".grow-bars button");
    assert.equal(await page.locator(".grow-bars button").count(), 2);
    await page.keyboard.press("Tab");
    await page.locator('.grow-bars [aria-checked="true"]').focus();
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.querySelector(".grow-head").innerText.includes("r1-zero"));
    assert.match(await page.locator(".grow-said").innerText(), /<script>window\.ran=2<\/script>/);
    assert.equal(await page.locator(".sample").count(), 3);
    await page.getByLabel("Verdict").selectOption("right");
    assert.equal(await page.locator(".sample").count(), 1);
    await page.getByLabel("Search questions").fill("nothing like it");
    assert.equal(await page.locator(".sample").count(), 0);
    assert.equal(await page.evaluate(() => window.ran), undefined);
    assert.deepEqual(faults, []);
  });

  test("results and recipe are there; a run that does not run can be gone on with", { timeout: 90_000 }, async () => {
    const { page, faults } = await enter();
    await page.getByRole("tab", { name: "Results" }).click();
    assert.match(await page.locator(".results").innerText(), /50%/);
    await page.getByRole("tab", { name: "Bill and recipe" }).click();
    assert.match(await page.locator("pre.recipe").innerText(), /reference_minutes/);
    await page.getByRole("button", { name: "Go on" }).click();
    await page.waitForSelector("dialog[open]");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog[open]", { state: "detached" });
    assert.deepEqual(faults, []);
  });

  for (const [language, title, tab] of [
    ["en-GB", "Runs", "Curves"],
    ["de-DE", "Läufe", "Kurven"],
    ["zh-CN", "训练", "曲线"],
  ]) {
    test(`phones show runs without scrolling sideways: ${language}`, { timeout: 90_000 }, async () => {
      const { page, faults } = await look({ size: "phone", language });
      await page.waitForSelector(`h1:text-is("${title}")`);
      await page.locator(".run-cards a").first().click();
      await page.waitForSelector(`[role="tab"]:text-is("${tab}")`);
      const wide = () => {
        const { scrollWidth, clientWidth } = document.querySelector(".view-page");
        return scrollWidth > clientWidth;
      };
      assert.equal(await page.evaluate(wide), false);
      assert.deepEqual(faults, []);
    });
  }

  for (const scheme of ["light", "dark"]) {
    test(`axe finds nothing serious: ${scheme}`, { timeout: 120_000 }, async () => {
      // The page's policy would not let axe in; that it holds is seen in the other tests.
      const { page } = await enter({ scheme, bypassCSP: true });
      await page.addScriptTag({ content: axe });
      for (const tab of ["Curves", "Thinking", "Results", "Bill and recipe"]) {
        await page.getByRole("tab", { name: tab }).click();
        await page.waitForTimeout(300);
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const bad = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        assert.deepEqual(bad.map(({ id, nodes }) => `${tab}, ${id}: ${nodes[0].html}`), []);
      }
    });
  }
});
