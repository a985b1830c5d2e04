// Hostile texts in every place of the page that shows what others wrote: nothing runs, nothing is
// fetched, nothing stands in the page but text in elements of ours, and the page stays quick.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { calm, close, launch, open } from "./browser.mjs";
import { busy } from "./busy.mjs";
import { Chat } from "./chat.mjs";
import { ADDRESSES, LOADS, NAMES, TEXTS } from "./hostile.mjs";
import { between } from "./proxy.mjs";
import { Server } from "./server.mjs";

/** Milliseconds for a long text, from its last piece until it is drawn, on two slow cores. */
const MOST_MILLISECONDS = 8_000;
/** Milliseconds in which a key shows, also while a long text stands above. */
const MOST_KEY = 400;

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

/** Looks through what stands in the page for what no text may bring in. */
export async function inspect(page) {
  const found = await page.evaluate((addresses) => {
    const faults = [];
    const OURS = new Set(["http:", "https:", "mailto:"]);
    const NEVER = "script, style, iframe, object, embed, applet, base, meta, link, img, picture, video, audio, source, track, frame, frameset, portal, template, foreignObject, use, image, feImage, animate, set, animateTransform, maction, mglyph, annotation-xml";
    const body = document.body;
    for (const own of body.querySelectorAll(NEVER)) {
      // The page's own script stands in the body.
      if (own.matches("script[src^='/assets/']")) continue;
      faults.push(`element ${own.outerHTML.slice(0, 120)}`);
    }
    for (const own of body.querySelectorAll(".prose :is(form, input, select, textarea, dialog, [popover], [contenteditable], [id], [name])")) {
      if (!own.matches("input[type=checkbox][disabled]")) faults.push(`within a turn ${own.outerHTML.slice(0, 120)}`);
    }
    for (const own of body.querySelectorAll("*")) {
      for (const { name, value } of own.attributes) {
        if (name.startsWith("on")) faults.push(`attribute ${name}="${value.slice(0, 60)}"`);
        if (/^(?:srcset|ping|formaction|srcdoc|background|poster|data|action|xlink:href)$/.test(name)) faults.push(`attribute ${name}="${value.slice(0, 60)}"`);
      }
      const href = own.getAttribute("href");
      if (href === null) continue;
      const isRoute = /^#(?:\/(?:chat|models|runs)(?:\/|$)|main$)/.test(href) && own.closest(".prose") === null;
      if (isRoute) continue;
      if (!OURS.has(new URL(href, location.href).protocol) || !/^(?:https?:\/\/|mailto:)/.test(href)) faults.push(`link ${href.slice(0, 80)}`);
      if (own.target !== "_blank" || !/noopener/.test(own.rel) || !/noreferrer/.test(own.rel)) faults.push(`link without its marks ${href.slice(0, 80)}`);
    }
    for (const own of body.querySelectorAll(".prose *")) {
      const { position, backgroundImage } = getComputedStyle(own);
      if (position === "fixed" || position === "sticky") faults.push(`${position} ${own.outerHTML.slice(0, 80)}`);
      if (/url\((?!["']?data:)/.test(backgroundImage) && !backgroundImage.includes(location.origin)) faults.push(`background ${backgroundImage}`);
    }
    if (addresses.some((address) => location.href.includes(address))) faults.push(`went to ${location.href}`);
    return [...new Set(faults)];
  }, ADDRESSES.filter((address) => address.length > 20));
  assert.deepEqual(found, []);
}

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
      proxy.prepared = { thought: text, answer: text, pieces: 25, pace: 12 };
      await chat.anew();
      await page.getByRole("heading", { name: chat.say.welcome }).waitFor();
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

describe("long answers", () => {
  let page;
  let chat;
  before(async () => {
    page = await open(browser, own());
    chat = await Chat.of(page);
  });
  after(() => page.context().close());

  for (const { name, text } of LOADS)
    test(name, async () => {
      proxy.prepared = { thought: "x", answer: text, pieces: 20, pace: 5 };
      await chat.anew();
      await page.getByRole("heading", { name: chat.say.welcome }).waitFor();
      await chat.begin("go");
      const begun = performance.now();
      await chat.answers.first().waitFor();
      await chat.send.waitFor({ timeout: 60_000 });
      const whole = performance.now() - begun;
      const factor = await busy();
      const key = await page.evaluate(async () => {
        const field = document.querySelector("form textarea");
        field.focus();
        let slowest = 0;
        for (let at = 0; at < 5; at += 1) {
          const before = performance.now();
          document.execCommand("insertText", false, "a");
          await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
          slowest = Math.max(slowest, performance.now() - before);
        }
        return slowest;
      });
      console.log(`# ${name}: ${Math.round(whole)} ms in all, a key ${Math.round(key)} ms`);
      assert(whole < MOST_MILLISECONDS * factor, `drawn after ${Math.round(whole)} ms`);
      assert(key < MOST_KEY * factor, `a key shows after ${Math.round(key)} ms`);
      await inspect(page);
      await calm(page);
    });
});

test("titles, questions and files", async () => {
  const page = await open(browser, own());
  const chat = await Chat.of(page);
  proxy.prepared = { answer: "fine" };
  for (const name of NAMES) {
    await chat.anew();
    await page.getByRole("heading", { name: chat.say.welcome }).waitFor();
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
