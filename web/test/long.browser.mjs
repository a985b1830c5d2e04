// Long answers, made to take long: each is drawn in bounded time, and the page stays quick below it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { calm, launch, open } from "./browser.mjs";
import { within } from "./busy.mjs";
import { Chat } from "./chat.mjs";
import { LOADS } from "./hostile.mjs";
import { inspect } from "./inspect.mjs";
import { between } from "./proxy.mjs";
import { Server } from "./server.mjs";

/** Milliseconds for a long text, from its last piece until it is drawn, on two slow cores. */
const MOST_MILLISECONDS = 8_000;
/** Milliseconds in which a key shows, also while a long text stands above. */
const MOST_KEY = 400;

let browser;
let server;
let proxy;
let page;
let chat;
before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start({ serves: ["tiny"] })]);
  proxy = await between(server);
  page = await open(browser, { ...server, url: proxy.url });
  chat = await Chat.of(page);
});
after(async () => {
  await browser?.close();
  await proxy?.close();
  await server?.stop();
});

/** How long the slowest of five keys takes to show. */
async function typed() {
  return page.evaluate(async () => {
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
}

for (const { name, text } of LOADS)
  test(name, async () => {
    proxy.prepared = { thought: "x", answer: text, pieces: 20, pace: 5 };
    await chat.anew();
    await chat.begin("go");
    const begun = performance.now();
    await chat.answers.first().waitFor();
    await chat.send.waitFor({ timeout: 60_000 });
    const whole = performance.now() - begun;
    const key = await typed();
    console.log(`# ${name}: ${Math.round(whole)} ms in all, a key ${Math.round(key)} ms`);
    assert(await within(whole, MOST_MILLISECONDS), `drawn after ${Math.round(whole)} ms`);
    assert(await within(key, MOST_KEY), `a key shows after ${Math.round(key)} ms`);
    await inspect(page);
    await calm(page);
  });
