// Small pictures of the main views for the README, into docs/images. Nothing in them is made up: PAGE is a
// server that serves models of a finished run of r1-tiny, as `r1` and `distilled`, and shows that run:
//
//   frugal serve r1=RUN/checkpoints/r1/final distilled=RUN/checkpoints/distilled/final --runs RUN
//   PAGE=http://127.0.0.1:8080 npm run screenshots

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, open, PHONE } from "../browser.mjs";
import { Chat } from "../chat.mjs";
import { words } from "../words.mjs";

const OUT = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const MOST_BYTES = 80_000;
const QUESTIONS = ["3 8 12 make 20", "2 7 11 make 25", "2 12 6 make 4"];
const RUN = "r1-tiny";

/** As WebP, as good as fits. */
async function take(page, name) {
  await page.waitForTimeout(700);
  const session = await page.context().newCDPSession(page);
  for (let quality = 90; ; quality -= 6) {
    const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality });
    const bytes = Buffer.from(data, "base64");
    if (bytes.length > MOST_BYTES && quality > 40) continue;
    writeFileSync(join(OUT, `${name}.webp`), bytes);
    console.log(`${name}: ${(bytes.length / 1000).toFixed(0)} kB, quality ${quality}`);
    break;
  }
  await session.detach();
}

assert(process.env.PAGE, "expected the address of a server in PAGE");
mkdirSync(OUT, { recursive: true });
const at = { url: process.env.PAGE.replace(/\/$/, "") };
const say = await words("en");
const browser = await launch();

async function shown(how, work) {
  const page = await open(browser, at, { deviceScaleFactor: 1.5, ...how });
  await work(page);
  await page.context().close();
}

for (const [name, how] of [
  ["chat", {}],
  ["chat-dark", { scheme: "dark" }],
  ["phone", { size: PHONE, scheme: "dark", deviceScaleFactor: 2 }],
])
  await shown(how, async (page) => {
    const chat = await Chat.of(page);
    for (const [nth, question] of QUESTIONS.entries()) {
      if (nth > 0) await chat.anew();
      await chat.ask(question);
      if (how.size !== PHONE) await chat.kept(question);
    }
    await chat.thought().click();
    await take(page, name);
  });
await shown({}, async (page) => {
  const chat = await Chat.of(page);
  await chat.button(chat.say.compare).first().click();
  await chat.ask(QUESTIONS[0]);
  for (const answer of await chat.answers.all()) await chat.thought(answer).click();
  await take(page, "compare");
});
for (const [name, hash, heading] of [
  ["models", "#/models", say.models.models],
  ["model", "#/models/r1", say.models.about],
])
  await shown({ hash }, async (page) => {
    await page.getByRole("heading", { name: heading, exact: true }).waitFor();
    await take(page, name);
  });
await shown({ hash: "#/runs" }, async (page) => {
  // Where the pictures were taken is nobody's business.
  await page.route(/\/web\/runs\/\w+$/, async (route) => {
    const response = await route.fetch();
    const run = await response.json();
    return route.fulfill({ response, json: { ...run, folder: `runs/${run.name}` } });
  });
  await page.getByRole("main").getByRole("table").waitFor();
  await take(page, "runs");
  await page.getByRole("main").getByRole("link", { name: RUN, exact: true }).filter({ visible: true }).click();
  await page.getByRole("tab", { name: say.runs.tab_curves }).waitFor();
  await page.waitForTimeout(1500);
  await take(page, "run");
  const thinking = page.getByRole("tab", { name: say.runs.tab_thinking });
  await thinking.click();
  await thinking.evaluate((own) => own.scrollIntoView());
  await take(page, "run-thinking");
});
await browser.close();
