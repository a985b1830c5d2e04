// Runs: all of them, one, some over each other; and a real one, watched as it learns, stopped and gone
// on with from the page.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { join } from "node:path";
import { close, fits, launch, open, PHONE, until, WIDE } from "./browser.mjs";
import { makeRun, QUESTION, STAGES } from "./runs.mjs";
import { Server, temporary } from "./server.mjs";
import { holding, LANGUAGES, words } from "./words.mjs";

let browser;
let server;
let folder;
before(async () => {
  folder = temporary("runs");
  makeRun(join(folder, "whole"));
  makeRun(join(folder, "half"), { done: 5, seed: 2, gain: 0.8 });
  [browser, server] = await Promise.all([launch(), Server.start({ serves: ["tiny"], flags: ["--runs", folder] })]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const tab = (page, name) => page.getByRole("tab", { name, exact: true });
/** The curve of a metric, alone or with others in the same picture. */
const chart = (page, name) => page.getByRole("slider", { name: new RegExp(`^${holding(name).source}[:：,，]`) });

/** The page of a run. */
async function openRun(name, more = {}) {
  const { runs: say } = await words("en");
  const page = await open(browser, server, { hash: "#/runs", ...more });
  await page.getByRole("main").getByRole("link", { name, exact: true }).filter({ visible: true }).click();
  await tab(page, say.tab_curves).waitFor();
  return { page, say };
}

for (const language of LANGUAGES)
  for (const size of [WIDE, PHONE])
    test(`lists, opens, reads: ${language}, ${size.width} wide`, async () => {
      const { runs: say } = await words(language);
      const page = await open(browser, server, { language, size, hash: "#/runs", scheme: size === PHONE ? "dark" : "light" });
      const link = page.getByRole("main").getByRole("link", { name: holding("whole") }).filter({ visible: true });
      await link.waitFor();
      await page.getByText(say.state.done, { exact: true }).filter({ visible: true }).first().waitFor();
      await page.getByText(say.state.stopped, { exact: true }).filter({ visible: true }).first().waitFor();
      await link.click();
      await page.getByRole("heading", { name: "whole" }).waitFor();
      await chart(page, say.metric.loss).waitFor();
      await fits(page);
      await tab(page, say.tab_thinking).click();
      await page.getByRole("heading", { name: say.grow_title }).waitFor();
      await page.getByText(QUESTION).first().waitFor();
      const marks = page.getByRole("radiogroup", { name: say.checkpoint, exact: true }).getByRole("radio");
      await marks.first().click();
      await page.getByText(say.no_thought).waitFor();
      await page.keyboard.press("End");
      await page.getByText(say.no_thought).waitFor({ state: "detached" });
      await page.getByRole("searchbox", { name: say.search }).fill("make 9");
      await page.getByRole("combobox", { name: say.verdict }).selectOption({ label: say.right });
      await page.getByRole("status").filter({ hasText: /\d/ }).first().waitFor();
      await tab(page, say.tab_results).click();
      await page.getByRole("heading", { name: say.results_title }).waitFor();
      await page.getByText(say.pass_1, { exact: true }).first().waitFor();
      await tab(page, say.tab_bill).click();
      await page.getByRole("heading", { name: say.recipe }).waitFor();
      await fits(page);
      await close(page);
    });

test("compares two runs", async () => {
  const { runs: say } = await words("en");
  const page = await open(browser, server, { hash: "#/runs" });
  for (const name of ["whole", "half"]) await page.getByRole("checkbox", { name: say.choose(name) }).filter({ visible: true }).check();
  await page.getByRole("button", { name: say.compare_n(2) }).click();
  await page.getByRole("heading", { name: say.comparison }).waitFor();
  for (const name of ["whole", "half"]) await page.getByRole("main").getByRole("link", { name, exact: true }).waitFor();
  await page.getByRole("combobox", { name: say.stage }).selectOption("base");
  await page.getByText(say.metric.loss, { exact: true }).first().waitFor();
  await close(page);
});

test("stages are chosen by keyboard, and curves are read by it", async () => {
  const { runs: say } = await words("en");
  const page = await open(browser, server, { hash: "#/runs" });
  await page.getByRole("main").getByRole("link", { name: "whole", exact: true }).filter({ visible: true }).focus();
  await page.keyboard.press("Enter");
  await tab(page, say.tab_curves).waitFor();
  await tab(page, say.tab_curves).focus();
  await page.keyboard.press("ArrowRight");
  await page.getByRole("heading", { name: say.grow_title }).waitFor();
  await page.keyboard.press("ArrowLeft");
  const loss = chart(page, say.metric.loss);
  await loss.focus();
  const told = () => loss.getAttribute("aria-valuetext");
  const last = await told();
  await page.keyboard.press("Home");
  await until(page, (last) => document.activeElement.getAttribute("aria-valuetext") !== last, last);
  const first = await told();
  await page.keyboard.press("ArrowRight");
  await until(page, (first) => document.activeElement.getAttribute("aria-valuetext") !== first, first);
  await close(page);
});

test("what pictures show can be read in tables, the load of experts too", async () => {
  const { page, say } = await openRun("whole");
  await page.getByRole("radio", { name: say.as_tables, exact: true }).click();
  const table = (name) => page.getByRole("table", { name, exact: true });
  await table(say.metric.accuracy).getByRole("columnheader", { name: say.mean }).waitFor();
  for (const layer of ["1", "2", "3"]) {
    const own = table(`${say.load}, ${say.layer(layer)}`);
    await own.getByRole("rowheader", { name: "8", exact: true }).waitFor();
    assert.match(await own.getByRole("cell").first().innerText(), /^\d(\.\d)?×$/);
  }
  assert.equal(await page.getByRole("slider").count(), 0);
  await close(page);
});

test("pictures speak the language that was chosen", async () => {
  const { page, say } = await openRun("whole");
  const { runs: other, shell } = { ...(await words("de")), shell: (await words("en")).shell };
  await page.getByRole("slider", { name: holding(say.load) }).waitFor();
  await chart(page, say.metric.accuracy).waitFor();
  await page.waitForTimeout(1500);
  const drawn = () => page.locator("canvas").evaluateAll((all) => [all[0], all.at(-1)].map((own) => own.toDataURL()));
  const before = await drawn();
  await page.getByRole("button", { name: holding(shell.preferences) }).click();
  await page.getByRole("menuitemradio", { name: "Deutsch" }).click();
  await page.getByRole("heading", { name: other.load }).waitFor();
  await page.waitForTimeout(300);
  const after = await drawn();
  // Accuracy has its per cent apart, and the load its layers by another name.
  for (const [at, what] of ["the curve", "the load"].entries()) assert(after[at] !== before[at], what);
  await close(page);
});

test("what nobody judged is not called wrong", async () => {
  const { page, say } = await openRun("whole");
  await tab(page, say.tab_thinking).click();
  await page.getByRole("radio", { name: say.by_training, exact: true }).click();
  const bars = page.getByRole("radiogroup", { name: say.checkpoint, exact: true }).getByRole("radio");
  await bars.first().filter({ hasText: say.unjudged }).waitFor();
  assert.equal(await bars.first().filter({ hasText: say.wrong }).count(), 0);
  await close(page);
});

test("a run that learns now: watched, stopped, gone on with", async () => {
  const { runs: say } = await words("en");
  const own = await Server.start({ serves: [], flags: ["--runs", folder] });
  const live = join(folder, "live");
  const learner = spawn(
    process.env.FRUGAL ?? "frugal",
    ["run", "r1-tiny", "--budget", "5", "--out", live, "--home", own.home, "--quiet", "--threads", "1"],
    { stdio: "ignore" },
  );
  const ended = new Promise((resolve) => learner.once("exit", resolve));
  try {
    const page = await open(browser, own, { hash: "#/runs" });
    await page.getByRole("main").getByRole("link", { name: "live", exact: true }).filter({ visible: true }).click({ timeout: 60_000 });
    await page.getByText(say.state.running, { exact: true }).first().waitFor();
    const stop = page.getByRole("button", { name: say.stop, exact: true });
    await stop.waitFor();
    // It grows while one looks on.
    const at = () => page.getByRole("main").innerText();
    const before = await at();
    await page.waitForFunction((before) => document.querySelector("main").innerText !== before, before, { timeout: 60_000 });
    await stop.click();
    const dialog = page.getByRole("dialog", { name: say.stop_title });
    await dialog.getByRole("button", { name: say.stop, exact: true }).click();
    await page.getByText(say.stop_asked).waitFor();
    await ended;
    await page.getByText(say.state.stopped, { exact: true }).first().waitFor({ timeout: 60_000 });
    await page.getByRole("button", { name: say.resume, exact: true }).click();
    const again = page.getByRole("dialog", { name: say.resume_title });
    await again.getByRole("button", { name: say.resume, exact: true }).click();
    await page.getByText(say.resume_asked).waitFor();
    await page.getByText(say.state.running, { exact: true }).first().waitFor({ timeout: 60_000 });
    await page.getByRole("button", { name: say.stop, exact: true }).click();
    await dialog.getByRole("button", { name: say.stop, exact: true }).click();
    await page.getByText(say.state.stopped, { exact: true }).first().waitFor({ timeout: 60_000 });
    await close(page);
  } finally {
    learner.kill("SIGKILL");
    await own.stop();
  }
});

test("a run that is not there, in words", async () => {
  const { runs: say } = await words("en");
  const page = await open(browser, server, { hash: "#/runs/0000000000000000", noise: /404/ });
  await page.getByText(say.unknown).waitFor();
  await close(page);
});
