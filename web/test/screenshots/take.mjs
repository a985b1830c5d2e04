// Small pictures of the main views for the README, into docs/images: `node test/screenshots/take.mjs`,
// with FRUGAL as the tests have it. `RUNS` names a folder of real runs; without it made-up ones are shown.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, open, PHONE, WIDE } from "../browser.mjs";
import { Chat } from "../chat.mjs";
import { between } from "../proxy.mjs";
import { makeRun } from "../runs.mjs";
import { Server, temporary } from "../server.mjs";
import { words } from "../words.mjs";
import { ANSWERS, MODELS } from "./scene.mjs";

const OUT = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const MOST_BYTES = 80_000;

/** As WebP, as good as fits. */
async function take(page, name) {
  await page.waitForTimeout(700);
  const session = await page.context().newCDPSession(page);
  for (let quality = 90; ; quality -= 6) {
    const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality });
    const bytes = Buffer.from(data, "base64");
    if (bytes.length > MOST_BYTES && quality > 40) continue;
    writeFileSync(join(OUT, `${name}.webp`), bytes);
    console.log(`${name}: ${(statSync(join(OUT, `${name}.webp`)).size / 1000).toFixed(0)} kB, quality ${quality}`);
    break;
  }
  await session.detach();
}

mkdirSync(OUT, { recursive: true });
const say = await words("en");
let folder = process.env.RUNS;
if (folder === undefined) {
  folder = temporary("runs");
  makeRun(join(folder, "r1-tiny"));
  makeRun(join(folder, "r1-tiny-2"), { seed: 5, gain: 0.8 });
  makeRun(join(folder, "cups"), { done: 5, seed: 2, gain: 0.7 });
}
const server = await Server.start({ serves: ["tiny"], flags: ["--runs", folder] });
const proxy = await between(server);
proxy.given.set("/v1/models", { object: "list", data: MODELS.filter(({ served }) => served).map(({ name, licence, parameters, bytes, context }) => ({ id: name, bytes, about: { licence, parameters, max_model_len: context, thinks: true } })) });
proxy.given.set("/web/models", { data: MODELS });
for (const model of MODELS) proxy.given.set(`/web/models/${encodeURIComponent(model.name)}`, model);
proxy.given.set("/tokenize", { count: 1830, max_model_len: 32_768 });
const browser = await launch();
const at = { url: proxy.url };
const sharp = { deviceScaleFactor: 1.5 };

async function chatting(how, work) {
  const page = await open(browser, at, { ...sharp, ...how });
  const chat = await Chat.of(page);
  await work(chat, page);
  await page.context().close();
}

async function ask(chat, what) {
  proxy.prepared = { ...ANSWERS[what], pieces: 24, pace: 30 };
  await chat.ask(ANSWERS[what].question);
}

for (const [scheme, name] of [["light", "chat"], ["dark", "chat-dark"]])
  await chatting({ scheme }, async (chat, page) => {
    for (const earlier of ["birthdays", "rust"]) {
      await ask(chat, earlier);
      await chat.kept(ANSWERS[earlier].question.slice(0, 20));
      await chat.button(chat.say.new_chat).first().click();
    }
    await ask(chat, "root");
    await chat.thought().click();
    await page.evaluate(() => document.querySelector("article").scrollIntoView());
    await take(page, name);
  });
await chatting({ size: PHONE, scheme: "dark", deviceScaleFactor: 2 }, async (chat, page) => {
  await ask(chat, "root");
  await page.evaluate(() => document.querySelector("article").scrollIntoView());
  await take(page, "phone");
});
await chatting({}, async (chat, page) => {
  await chat.button(chat.say.compare).first().click();
  await ask(chat, "birthdays");
  await page.evaluate(() => document.querySelector("article").scrollIntoView());
  await take(page, "compare");
});
for (const [name, hash, heading] of [
  ["models", "#/models", say.models.models],
  ["model", `#/models/${encodeURIComponent(MODELS[0].name)}`, say.models.about],
  ["runs", "#/runs", say.runs.title],
]) {
  const page = await open(browser, at, { ...sharp, hash });
  // Where the pictures were taken is nobody's business.
  await page.route("**/web/runs/*", async (route) => {
    if (!/\/runs\/\w+$/.test(route.request().url())) return route.continue();
    const answer = await route.fetch();
    const run = await answer.json();
    return route.fulfill({ response: answer, json: { ...run, folder: `runs/${run.name}` } });
  });
  await page.getByRole("heading", { name: heading, exact: true }).waitFor();
  if (name === "runs") await page.getByRole("main").getByRole("table").waitFor();
  await take(page, name);
  if (name === "runs") {
    await page.getByRole("main").getByRole("link", { name: "r1-tiny", exact: true }).filter({ visible: true }).click();
    await page.getByRole("tab", { name: say.runs.tab_curves }).waitFor();
    await page.waitForTimeout(1500);
    await take(page, "run");
    await page.getByRole("tab", { name: say.runs.tab_thinking }).click();
    await page.getByRole("tab", { name: say.runs.tab_thinking }).evaluate((own) => own.scrollIntoView());
    await take(page, "run-thinking");
  }
  await page.context().close();
}
await browser.close();
await proxy.close();
await server.stop();
process.exit(0);
