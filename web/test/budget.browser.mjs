// What the page may weigh and how quick it must be. The numbers are printed, so that one sees them move.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, launch, open } from "./browser.mjs";
import { busy, during } from "./busy.mjs";
import { Chat } from "./chat.mjs";
import { between } from "./proxy.mjs";
import { Server } from "./server.mjs";

const MOST_BYTES = 300_000;
const MOST_READY = 1_000;
const MOST_TASK = 200;
const TURNS = 500;

let browser;
let server;
before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start({ serves: ["tiny"] })]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const say = (text) => console.log(`# ${text}`);
const middle = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

/** Loads a view in a fresh browser profile and counts what comes over the line. */
async function load(hash = "") {
  const page = await open(browser, server, { hash: "#/nowhere" });
  await page.goto("about:blank");
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.clearBrowserCache");
  let bytes = 0;
  const files = new Map();
  session.on("Network.responseReceived", ({ requestId, response }) => files.set(requestId, response.url));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    if (files.has(requestId)) bytes += encodedDataLength;
  });
  await page.goto(`${server.url}/${hash}`);
  return { page, bytes: () => bytes, files: () => files.size };
}

test("the first load is light", async () => {
  const { page, bytes, files } = await load();
  await Chat.of(page);
  await page.waitForLoadState("networkidle");
  say(`first load of the chat: ${(bytes() / 1000).toFixed(1)} kB in ${files()} requests`);
  assert(bytes() < MOST_BYTES, `${bytes()} bytes`);
  await close(page);
  for (const hash of ["#/models", "#/runs"]) {
    const view = await load(hash);
    await view.page.getByRole("heading", { level: 1 }).waitFor();
    await view.page.waitForLoadState("networkidle");
    say(`first load of ${hash}: ${(view.bytes() / 1000).toFixed(1)} kB in ${view.files()} requests`);
    assert(view.bytes() < MOST_BYTES, `${view.bytes()} bytes`);
    await view.page.context().close();
  }
});

test("one can type within a second", async () => {
  const times = [];
  const { factor } = await during(() => loadOften(times));
  const [paint, ready] = [middle(times.map(({ paint }) => paint)), middle(times.map(({ ready }) => ready))];
  const best = Math.min(...times.map(({ ready }) => ready));
  say(`first contentful paint ${Math.round(paint)} ms, typing ${Math.round(ready)} ms (middle of five; best ${Math.round(best)} ms; the machine was busy ${factor.toFixed(1)}-fold)`);
  assert(best < MOST_READY * factor, `typing after ${Math.round(best)} ms`);
});

async function loadOften(times) {
  for (let round = 0; round < 5; round += 1) {
    const page = await open(browser, server, { hash: "#/nowhere" });
    await page.addInitScript(() => {
      const look = () => {
        const field = document.querySelector("form textarea");
        if (!field) return void requestAnimationFrame(look);
        // Typed, and the page knows of it: the button that sends can be pressed.
        field.focus();
        document.execCommand("insertText", false, "a");
        const wait = () => {
          if (document.querySelector("form button[type=submit]:not(:disabled)")) window.readyAt = performance.now();
          else requestAnimationFrame(wait);
        };
        wait();
        return undefined;
      };
      look();
    });
    await page.goto("about:blank");
    await page.goto(server.url);
    await page.waitForFunction(() => window.readyAt);
    times.push(
      await page.evaluate(() => ({
        paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
        ready: window.readyAt,
      })),
    );
    await page.context().close();
  }
}

/** A long conversation as the page itself keeps it. */
function longChat() {
  const paragraph = "Let us look at the sum from both ends, for each pair gives the same number and there are half as many pairs as numbers. ";
  const answer = (at) => `## Step ${at}\n\n${paragraph.repeat(6)}\n\n- first $a_{${at}} = ${at}^2$\n- then \`f(${at})\`\n\n| n | n² |\n|--:|--:|\n| ${at} | ${at * at} |\n\n\`\`\`python\ndef f(n):\n    return n * n  # ${at}\n\`\`\`\n\n${paragraph.repeat(5)}`;
  const nodes = {};
  let parent = null;
  for (let at = 0; at < TURNS; at += 1) {
    const id = `turn-${at}`;
    const isAnswer = at % 2 === 1;
    nodes[id] = {
      id, parent, role: isAnswer ? "assistant" : "user", content: isAnswer ? answer(at) : `Question ${at}: ${paragraph}`,
      reasoning: isAnswer ? paragraph.repeat(8) : null, files: [], usage: isAnswer ? { prompt_tokens: 100, completion_tokens: 300, reasoning_tokens: 100, cached_tokens: 0, cost: null } : null,
      seconds: isAnswer ? { first: 0.1, thought: 1, whole: 3 } : null, finish: isAnswer ? "stop" : null, model: isAnswer ? "tiny" : null, at: 1_700_000_000 + at,
    };
    parent = id;
  }
  return JSON.stringify({ format: "frugal-chats", version: 1, chats: [{ title: "five hundred turns", document: { version: 1, model: "tiny", settings: {}, system: "", nodes, leaf: parent } }] });
}

test("a chat of 500 long turns stays smooth", async () => {
  // The tiny model cannot keep so much in view.
  const proxy = await between(server);
  proxy.prepared = { thought: "x ".repeat(200), answer: "One more paragraph, in *some* detail.\n\n".repeat(20), pieces: 60, pace: 10 };
  const page = await open(browser, { url: proxy.url });
  const chat = await Chat.of(page);
  const choosing = page.waitForEvent("filechooser");
  await chat.choose(chat.say.history_deeds, chat.say.import_chats);
  const text = longChat();
  await (await choosing).setFiles({ name: "long.json", mimeType: "application/json", buffer: Buffer.from(text) });
  await chat.entry("five hundred turns").waitFor();
  await chat.answers.last().waitFor();
  await page.reload();
  const begun = Date.now();
  await chat.answers.last().waitFor();
  await page.waitForFunction(() => document.querySelector("form textarea"));
  const opened = Date.now() - begun;
  // The drawing of formulas and colours ends.
  await page.waitForTimeout(2500);
  await page.evaluate(() => {
    window.tasks = [];
    new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
  });
  const before = await busy();
  await chat.field.focus();
  const keys = [];
  const words = "why is the sum of the first n odd numbers a square";
  for (const key of words) {
    await page.evaluate(() => {
      window.shown = new Promise((resolve) => {
        const field = document.querySelector("form textarea");
        field.addEventListener("input", () => {
          const at = performance.now();
          requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - at)));
        }, { once: true, capture: true });
      });
    });
    await page.keyboard.press(key === " " ? "Space" : key);
    keys.push(await page.evaluate(() => window.shown));
  }
  await page.waitForTimeout(900);
  const typing = await page.evaluate(() => window.tasks.splice(0));
  const frames = await page.evaluate(async () => {
    const scroller = [...document.querySelectorAll("main *")].find((own) => own.scrollHeight > own.clientHeight * 5 && /auto|scroll/.test(getComputedStyle(own).overflowY));
    const times = [];
    let last = performance.now();
    scroller.scrollTop = scroller.scrollHeight;
    for (let at = 0; at < 120; at += 1) {
      scroller.scrollTop -= 900;
      await new Promise((resolve) => requestAnimationFrame(resolve));
      const now = performance.now();
      times.push(now - last);
      last = now;
    }
    return times;
  });
  const scrolling = await page.evaluate(() => window.tasks.splice(0));
  const asked = Date.now();
  await page.keyboard.press("Enter");
  await chat.answers.nth(TURNS / 2).waitFor();
  await chat.done();
  const answering = await page.evaluate(() => window.tasks.splice(0));
  const factor = Math.max(before, await busy());
  const most = (numbers) => Math.round(Math.max(0, ...numbers));
  say(`500 turns (${(text.length / 1e6).toFixed(1)} MB): opened in ${opened} ms; a key ${Math.round(middle(keys))} ms, slowest ${most(keys)} ms, longest task ${most(typing)} ms; a frame of scrolling ${Math.round(middle(frames))} ms, slowest ${most(frames)} ms, longest task ${most(scrolling)} ms; one more answer ${Date.now() - asked} ms, longest task ${most(answering)} ms; the machine was busy ${factor.toFixed(1)}-fold`);
  assert(most(typing) < MOST_TASK * factor, `a task of ${most(typing)} ms while typing`);
  assert(middle(keys) < 100 * factor, `a key shows after ${Math.round(middle(keys))} ms`);
  assert(middle(frames) < 50 * factor, `a frame takes ${Math.round(middle(frames))} ms`);
  await close(page);
  await proxy.close();
});
