// Hostile texts in every place of the page that shows what others wrote: nothing runs, nothing is
// fetched, nothing stands in the page but text in elements of ours. That the page stays quick with long
// ones is in long.browser.mjs.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { calm, close, launch, open } from "./browser.mjs";
import { Chat } from "./chat.mjs";
import { NAMES, TEXTS } from "./hostile.mjs";
import { inspect } from "./inspect.mjs";
import { between } from "./proxy.mjs";
import { Server } from "./server.mjs";

let browser;
let server;
let proxy;
before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start({ serves: ["tiny"] })]);
  proxy = await between(server);
});
after(async () => {
  await browser?.close();
  await proxy?.close();
  await server?.stop();
});

/** Looks for words of the page that others' words have turned round: letters that go from right to left. */
async function inOrder(page) {
  const found = await page.evaluate((hostile) => {
    const TURNS = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
    const leftOf = (node, at) => {
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const [box] = range.getClientRects();
      return box && box.width > 0 ? box : null;
    };
    const isTurned = (node, at) => {
      const [one, other] = [leftOf(node, at), leftOf(node, at + 1)];
      return one && other && Math.abs(one.top - other.top) < 2 && one.left > other.left;
    };
    const faults = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const text = node.data;
      // What a model, a reader or a file says may go as it likes where it stands alone.
      if (node.parentElement.closest(".prose :not(.picture, .code figcaption *), .prose > *, .bubble p, .file-text") && !node.parentElement.closest(".picture")) continue;
      const pairs = [...text.matchAll(/[a-z](?=[a-z])/gi)].map(({ index }) => index);
      const [first, last] = [pairs[0], pairs.at(-1)];
      if (first === undefined) continue;
      if (!TURNS.test(text.slice(0, first)) && isTurned(node, first)) faults.push(text.slice(0, 80));
      const isOurs = !hostile.some((one) => one.includes(text.slice(last, last + 6).trim()));
      if (isOurs && isTurned(node, last)) faults.push(text.slice(-80));
    }
    return faults;
  }, [...NAMES, ...TEXTS.map(({ text }) => text)].filter((one) => TURNED.test(one)));
  assert.deepEqual(found, []);
}
const TURNED = /[\u0590-\u08ff\u202a-\u202e\u2066-\u2069]/;

const own = () => ({ ...server, url: proxy.url });

describe("answers and thoughts", () => {
  let page;
  let chat;
  before(async () => {
    page = await open(browser, own());
    chat = await Chat.of(page);
  });
  after(() => page.context().close());

  for (const { name, text } of TEXTS)
    test(name, async () => {
      proxy.prepared = { thought: text, answer: text, pieces: 25 };
      await chat.anew();
      const answer = await chat.ask(text.slice(0, 2000));
      await chat.thought(answer).click();
      // Formulas and colours are loaded when first wanted.
      await page.waitForTimeout(300);
      await inspect(page);
      await calm(page);
      // Nor does anything wait for a hand: what can be pressed in the text is pressed.
      for (const region of (await answer.getByRole("button").all()).slice(0, 6)) await region.hover({ timeout: 300 }).catch(() => undefined);
      await calm(page);
      await page.reload();
      await chat.answers.first().waitFor();
      await page.waitForTimeout(200);
      await inspect(page);
      await calm(page);
    });
});

test("nothing that others wrote turns the page's own words round", async () => {
  const page = await open(browser, own());
  const chat = await Chat.of(page);
  for (const name of NAMES.filter((one) => TURNED.test(one))) {
    proxy.prepared = { thought: name, answer: `${name}\n\n![${name}](https://elsewhere.example/${name})` };
    await chat.anew();
    const files = page.locator("input[type=file]:not([accept])");
    await files.setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from(name) });
    await page.getByRole("list", { name: chat.say.files }).getByRole("button").first().waitFor();
    await files.setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from([0]) });
    await page.getByRole("status").filter({ hasText: "gnp" }).or(page.getByRole("status").filter({ hasText: "7" })).first().waitFor();
    await inOrder(page);
    await chat.ask(name);
    await chat.thought().click();
    await inOrder(page);
    const entry = chat.history.getByRole("listitem").first();
    await entry.hover();
    await chat.choose(entry.getByRole("button"), chat.say.remove);
    await page.getByRole("dialog", { name: chat.say.remove_title }).waitFor();
    await inOrder(page);
    await page.keyboard.press("Escape");
  }
  await page.evaluate(() => document.body.append(Object.assign(document.createElement("p"), { textContent: "\u202egnp.exe is what it says" })));
  await assert.rejects(inOrder(page), /what it says/, "what is turned round is seen");
  await page.context().close();
});

test("titles, questions and files", async () => {
  const page = await open(browser, own());
  const chat = await Chat.of(page);
  proxy.prepared = { answer: "fine" };
  for (const name of NAMES) {
    await chat.anew();
    await page.locator("input[type=file]:not([accept])").setInputFiles({ name: name.replaceAll("/", "∕").slice(0, 200), mimeType: "text/plain", buffer: Buffer.from(name) });
    await page.getByRole("list", { name: chat.say.files }).getByRole("button").first().waitFor();
    await chat.ask(name);
    await inspect(page);
  }
  await page.waitForTimeout(600);
  await page.getByRole("list", { name: chat.say.files }).getByRole("button").first().click();
  await page.getByRole("dialog").waitFor();
  await inspect(page);
  await page.keyboard.press("Escape");
  await page.reload();
  await chat.answers.first().waitFor();
  await inspect(page);
  await close(page);
});

test("files of chats that somebody else made", async () => {
  const page = await open(browser, own());
  const chat = await Chat.of(page);
  const turn = (more) => ({ parent: null, role: "assistant", content: TEXTS[0].text, reasoning: TEXTS[1].text, files: [], finish: "stop", ...more });
  const hostile = {
    format: "frugal-chats",
    version: 1,
    chats: [
      ...NAMES.map((name) => ({
        title: name,
        document: {
          version: 1,
          model: name,
          settings: { temperature: name, verify: { samples: 1e9, checker: name }, thinking: { mode: name, budget: name } },
          system: name,
          nodes: JSON.parse(`{"__proto__": ${JSON.stringify(turn({}))}, "constructor": ${JSON.stringify(turn({ model: name, parent: "a" }))}}`),
          leaf: "constructor",
        },
      })),
      {
        title: "a circle",
        document: {
          version: 1,
          nodes: {
            a: turn({ parent: "b", role: "user", files: [{ name: NAMES[0], text: NAMES[4], tokens: 1e300 }, { name: 1 }, null] }),
            b: turn({ parent: "a", usage: { prompt_tokens: NAMES[4], completion_tokens: -1, cost: { joules: "x", currency: NAMES[4], money: 1 } }, seconds: { whole: 1e300, first: "x" }, model: NAMES[4], beside: "b", verify: { checker: NAMES[4], verdicts: [{ result: NAMES[4] }, 7] } }),
          },
          leaf: "b",
        },
      },
      null,
      7,
      { title: {}, document: { version: 1, nodes: [] } },
      { title: "none", document: { version: 1, nodes: {} , leaf: "toString" } },
    ],
  };
  for (const bad of ["", "{", "null", '{"format":"frugal-chats"}', "[]", JSON.stringify(hostile)]) {
    const choosing = page.waitForEvent("filechooser");
    await chat.choose(chat.say.history_deeds, chat.say.import_chats);
    await (await choosing).setFiles({ name: "chats.json", mimeType: "application/json", buffer: Buffer.from(bad) });
    await page.waitForTimeout(100);
  }
  await chat.entry("a circle").waitFor();
  await inspect(page);
  for (const link of await chat.history.getByRole("link").all()) {
    await link.click();
    await page.waitForTimeout(150);
    await inspect(page);
    await calm(page);
  }
  assert.equal(await page.evaluate(() => ({}).role), undefined, "no prototype was touched");
  await close(page);
});

test("models", async () => {
  const name = (at) => `${NAMES[at]}`;
  const card = (at) => ({
    name: name(at),
    served: true,
    loaded: true,
    bytes: 1e12,
    parameters: 7e9,
    quantization: name(at),
    architecture: name(at),
    licence: name(at),
    base_models: [name(at), `javascript:ran(1)`],
    method: name(at),
    origin: `javascript:ran(1)`,
    revision: name(at),
    created_at: 1e9,
    context: 4096,
    card: { text: TEXTS[at % TEXTS.length].text },
    active_parameters: 1e9,
    stored: true,
    managed: true,
    lineage: [{ name: name(at), method: name(at), here: true, teacher: name(at) }, { name: "__proto__", method: null, here: true, teacher: null }],
    cost: { flops: 1, core_seconds: 1, joules: 1, money: 1, currency: name(at) },
    forecast: { tokens_per_second: 1, prompt_tokens_per_second: 1, memory_bytes: 1 },
    measured: { tokens_per_second: 1, at: 1e9 },
  });
  const all = NAMES.map((_, at) => card(at));
  proxy.given.set("/v1/models", { object: "list", data: all.map(({ name }) => ({ id: name, about: { licence: name, architecture: name } })) });
  proxy.given.set("/web/models", { data: all });
  for (const { name } of all) proxy.given.set(`/web/models/${encodeURIComponent(name)}`, card(NAMES.indexOf(name)));
  const page = await open(browser, own());
  const chat = await Chat.of(page);
  await chat.opener(chat.say.model).click();
  await inspect(page);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: new RegExp(`^${chat.say.about_model("")}`) }).click();
  await inspect(page);
  await page.goto(`${proxy.url}/#/models`);
  await page.waitForTimeout(500);
  await inspect(page);
  for (const { name } of all.slice(0, 12)) {
    await page.evaluate((name) => (location.hash = `#/models/${encodeURIComponent(name)}`), name);
    await page.waitForTimeout(250);
    await inspect(page);
  }
  await close(page);
  proxy.given.clear();
});

test("runs and their samples", async () => {
  const estimate = { value: 0.5, low: 0.4, high: 0.6 };
  const SCORE = { problems: 1, pass_at_1: estimate, greedy: estimate, pass_at_8: estimate, majority_at_8: estimate };
  const spent = { seconds: 1, core_seconds: 1, peak_memory_bytes: 1, joules: 1, energy: "measured", tokens_trained: 1, tokens_generated: 1, flops_forward: 1, flops_backward: 1, flops_rollout: 1, money: { [NAMES[4]]: 1, __proto__: 2 } };
  const stages = NAMES.slice(0, 12).map((name) => ({ name, kind: name, state: "done", steps: 2, of: 2, from: name, teacher: name, control: false, seconds: 1, tokens_trained: 1, tokens_generated: 1 }));
  const head = (at) => ({ id: `r${at}`, name: NAMES[at], folder: NAMES[at], recipe: NAMES[at], about: TEXTS[0].text, task: NAMES[at], seed: 1, budget_minutes: 1, state: "done", stopping: false, started_at: 1e9, ended_at: 1e9, seconds: 1, stages, latest: NAMES[at], bill: spent, tokens_trained: 1, tokens_generated: 1, accuracies: [0, 1], accuracy: 1, problem: NAMES[at] });
  const data = NAMES.map((_, at) => head(at));
  const lines = stages.flatMap(({ name }) => [0, 1].map((step) => ({ stage: name, kind: name, step, loss: 1 - step / 2, reward: step, accuracy: step, thinking_tokens: step, [NAMES[4]]: step, __proto__: step, expert_load: [[0.5, 0.5]] })));
  const samples = [...NAMES, ...TEXTS.map(({ text }) => text)].map((text, at) => ({ stage: stages[at % 12].name, checkpoint: stages[at % 12].name, step: 1, question: text, text: `<think> ${text} </think> ${text}`, correct: true, reward: 1 }));
  proxy.given.set("/web/runs", { data, total: spent, others: [{ recipe: NAMES[4], count: 1, spent }] });
  for (const one of data) {
    proxy.given.set(`/web/runs/${one.id}`, { ...one, recipe_toml: TEXTS[0].text, bills: stages.map(({ name }) => ({ ...spent, stage: name, flops_per_second: 1, share_of_peak: 0.5, price_per_core_hour: 1, currency: NAMES[4] })), scores: [{ stage: NAMES[4], control: false, checkpoints: [{ checkpoint: NAMES[4], score: SCORE, curve: NAMES }] }], self_check_words: NAMES, log: TEXTS[0].text });
    proxy.given.set(`/web/runs/${one.id}/events`, { stream: [{ file: "journal", offset: 1, lines }, { file: "timings", offset: 1, lines: lines.map(({ stage, step }) => ({ stage, step, seconds: 1, tokens_trained: 1, tokens_generated: 1 })) }, { file: "samples", offset: 1, lines: samples }, { state: "done", stopping: false, stages }], stays: true });
  }
  const page = await open(browser, own(), { hash: "#/runs" });
  await page.getByRole("table").first().waitFor();
  await inspect(page);
  for (const at of [4, 16]) {
    await page.evaluate((at) => (location.hash = `#/runs/r${at}`), at);
    await page.getByRole("tab").first().waitFor();
    for (const tab of await page.getByRole("tab").all()) {
      await tab.click();
      await page.waitForTimeout(250);
      for (const fold of (await page.locator("main button[aria-expanded=false]").all()).slice(0, 8)) await fold.click({ timeout: 500 }).catch(() => undefined);
      await inspect(page);
      await calm(page);
      await page.keyboard.press("Escape");
    }
  }
  await page.evaluate(() => (location.hash = "#/runs/r1,r4"));
  await page.waitForTimeout(500);
  await inspect(page);
  await close(page);
  proxy.given.clear();
});
