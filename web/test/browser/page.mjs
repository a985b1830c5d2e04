// A page in a browser in front of a real server, for the tests beside this file. Read from the
// environment:
//
//   FRUGAL          the binary that is started (or PAGE, the address of a server that runs already)
//   FRUGAL_MODEL    a model that it serves
//   CHROMIUM        the browser [/usr/bin/chromium]
//
// Without a server or a browser the tests say so in one line and are passed over.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { FRUGAL, FRUGAL_MODEL, PAGE, CHROMIUM = "/usr/bin/chromium" } = process.env;

/** Why nothing can be tested here; undefined where it can. */
export const skip = existsSync(CHROMIUM)
  ? PAGE || (FRUGAL && FRUGAL_MODEL)
    ? undefined
    : "expected FRUGAL and FRUGAL_MODEL, or PAGE"
  : `expected a browser at ${CHROMIUM}`;

/** A server on a free port, with a home of its own. */
export async function serve(...flags) {
  if (PAGE) return { url: PAGE, stop: () => undefined };
  const home = mkdtempSync(join(tmpdir(), "frugal-page-"));
  const server = spawn(FRUGAL, ["serve", `model=${FRUGAL_MODEL}`, "--bind", "127.0.0.1:0", ...flags], {
    env: { ...process.env, FRUGAL_HOME: home },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stop = () => {
    server.kill();
    rmSync(home, { recursive: true, force: true });
  };
  const url = await new Promise((resolve, reject) => {
    let said = "";
    const listen = (piece) => {
      said += piece;
      const found = /listening on (\S+:\d+)/.exec(said);
      if (found) resolve(`http://${found[1].replace(/^https?:\/\//, "")}/`);
    };
    server.stdout.on("data", listen);
    server.stderr.on("data", listen);
    server.on("exit", (code) => reject(new Error(`the server ended with ${code}: ${said}`)));
  });
  return { url, stop };
}

/** Starts a browser; `open` gives pages in contexts that know nothing of one another. */
export async function browse() {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  return { open: (url, how) => open(browser, url, how), stop: () => browser.close() };
}

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };

async function open(browser, url, { size = "desktop", scheme = "light", language = "en-GB", ...more } = {}) {
  const isPhone = size === "phone";
  const context = await browser.newContext({
    viewport: SIZES[size],
    colorScheme: scheme,
    locale: language,
    hasTouch: isPhone,
    isMobile: isPhone,
    reducedMotion: "reduce",
    ...more,
  });
  const page = await context.newPage();
  /** What must not happen: errors of scripts, breaches of the page's policy, requests to elsewhere. */
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted/.test(message.text())) faults.push(message.text());
  });
  const own = new URL(url).origin;
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (to.origin !== own && !/^(?:blob|data):$/.test(to.protocol)) faults.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  await page.waitForSelector(".composer textarea");
  return { page, context, faults };
}

/** Asks something and waits until the answer has ended, well or not. */
export async function ask(page, text) {
  const before = await page.locator(".answer .turn-foot").count();
  await page.fill(".composer textarea", text);
  await page.click(".composer [type=submit]");
  await page.waitForFunction((many) => document.querySelectorAll(".answer .turn-foot").length > many, before, { timeout: 90_000 });
}

/** The body of a stream in which a model thinks and answers so. `isCut`: the connection is lost before its end. */
export function stream({ thought = "", answer = "", isCut = false, pieces = 40 }) {
  const chunk = (fields) => `data: ${JSON.stringify({ id: "chatcmpl-test", usage: null, ...fields })}\n\n`;
  const cut = (text) => {
    const size = Math.max(1, Math.ceil(text.length / pieces));
    return Array.from({ length: Math.ceil(text.length / size) }, (_, at) => text.slice(at * size, (at + 1) * size));
  };
  const delta = (name) => (text) => chunk({ choices: [{ index: 0, delta: { [name]: text }, finish_reason: null }] });
  const said = cut(thought).map(delta("reasoning_content")).join("") + cut(answer).map(delta("content")).join("");
  if (isCut) return said;
  const usage = {
    prompt_tokens: 12,
    completion_tokens: 9,
    completion_tokens_details: { reasoning_tokens: 4 },
    cost: { flops: 1e9, core_seconds: 0.5, joules: 4, joules_are: "estimated", money: 0.0001, currency: "EUR" },
  };
  return `${said}${chunk({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}${chunk({ choices: [], usage })}data: [DONE]\n\n`;
}

/** Lets the next questions be answered with these streams, or statuses, one after another; the last one for good. */
export async function answerWith(page, ...answers) {
  const asked = [];
  await page.route("**/v1/chat/completions", async (route) => {
    asked.push(route.request().postDataJSON());
    const next = answers.length > 1 ? answers.shift() : answers[0];
    if (typeof next === "string") await route.fulfill({ contentType: "text/event-stream", body: next });
    else await route.fulfill(next);
  });
  return asked;
}
