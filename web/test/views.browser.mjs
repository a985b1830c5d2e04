// Every main view in both themes, at both sizes: axe finds nothing serious.

import { after, before, test } from "node:test";
import { join } from "node:path";
import { accessible, close, launch, open, PHONE, WIDE } from "./browser.mjs";
import { Chat } from "./chat.mjs";
import { between } from "./proxy.mjs";
import { makeRun } from "./runs.mjs";
import { Server, temporary } from "./server.mjs";
import { holding, words } from "./words.mjs";

const TEXT = `A list:

1. one, with \`code\` and a [link](https://example.org)
2. two

| a | b |
|--:|---|
| 1 | *two* |

> quoted

$$\\int_0^1 x^2\\,dx = \\tfrac13$$

\`\`\`rust
fn main() { println!("{}", 1 + 1); }
\`\`\`

- [x] done
`;

let browser;
let server;
let keyed;
let proxy;
let say;
before(async () => {
  say = await words("en");
  const folder = temporary("runs");
  makeRun(join(folder, "whole"));
  makeRun(join(folder, "half"), { done: 5, seed: 2, gain: 0.8 });
  [browser, server, keyed] = await Promise.all([
    launch(),
    Server.start({ flags: ["--runs", folder] }),
    Server.start({ serves: ["tiny"], flags: ["--keys-required"], keys: [["ada"]] }),
  ]);
  proxy = await between(server);
  proxy.prepared = { thought: `First I think.\n\n${TEXT}`, answer: TEXT };
});
after(async () => {
  await browser?.close();
  await proxy?.close();
  await server?.stop();
  await keyed?.stop();
});

/** Each view, and the states of it that are worth a look: from one to the next. */
async function* chatStates(page) {
  const chat = await Chat.of(page);
  yield "the chat, empty";
  await chat.ask("What is the integral?");
  await chat.thought().click();
  await page.waitForTimeout(400);
  yield "the chat with an answer";
  await chat.opener(chat.say.receipt, chat.last).click();
  yield "the bill of an answer";
  await page.keyboard.press("Escape");
  await chat.opener(chat.say.think_menu).click();
  yield "a menu";
  await page.keyboard.press("Escape");
  await chat.opener(chat.say.verify).click();
  yield "the panel of verifying";
  await page.keyboard.press("Escape");
  await chat.questions.first().getByRole("button", { name: chat.say.edit, exact: true }).click();
  yield "a question that is edited";
  await page.keyboard.press("Escape");
  await chat.button(chat.say.settings).click();
  const drawer = page.getByRole("dialog", { name: chat.say.settings });
  await drawer.getByRole("button", { name: chat.say.more_settings, exact: true }).click();
  yield "the settings";
  await drawer.getByRole("button", { name: chat.say.close }).click();
  await chat.choose(chat.say.more_deeds, chat.say.compare);
  await chat.ask("And both?");
  yield "two answers side by side";
  proxy.prepared = { ...proxy.prepared, breaks: true };
  await chat.begin("And then?");
  await page.getByText(chat.say.faults.lost, { exact: true }).first().waitFor();
  proxy.prepared = { ...proxy.prepared, breaks: false };
  yield "a fault";
}

async function* modelStates(page) {
  const row = page.getByRole("main").getByRole("link", { name: holding("wordy") });
  await row.waitFor();
  yield "the models";
  await page.getByRole("button", { name: say.models.fetch }).first().click();
  yield "fetching a model";
  await page.keyboard.press("Escape");
  await row.click();
  await page.getByRole("heading", { name: say.models.about, exact: true }).waitFor();
  yield "a model";
}

async function* runStates(page) {
  const link = page.getByRole("main").getByRole("link", { name: holding("whole") }).filter({ visible: true });
  await link.waitFor();
  yield "the runs";
  await link.click();
  for (const tab of [say.runs.tab_curves, say.runs.tab_thinking, say.runs.tab_results, say.runs.tab_bill]) {
    await page.getByRole("tab", { name: tab, exact: true }).click();
    await page.waitForTimeout(400);
    yield `a run: ${tab}`;
  }
  const ids = await page.evaluate(async () => (await (await fetch("/web/runs")).json()).data.map(({ id }) => id));
  await page.evaluate((ids) => (location.hash = `#/runs/${ids.join(",")}`), ids);
  await page.getByRole("heading", { name: say.runs.comparison }).waitFor();
  await page.waitForTimeout(600);
  yield "runs over each other";
}

async function* signInStates(page) {
  await page.getByRole("heading", { name: say.shell.sign_in }).waitFor();
  yield "signing in";
  await page.getByLabel(say.shell.key, { exact: true }).fill("sk-wrong");
  await page.getByRole("button", { name: say.shell.sign_in, exact: true }).click();
  await page.getByText(say.shell.key_wrong).waitFor();
  yield "a wrong key";
}

async function* drawerStates(page) {
  await page.getByRole("button", { name: say.shell.open_menu }).click();
  await page.getByRole("dialog").waitFor();
  yield "the drawer of a phone";
}

// Every view in both themes and at both sizes; tables, which phones see as cards, dark as well.
const VIEWS = [
  ["chat", "", chatStates, [["light", WIDE], ["dark", PHONE]]],
  ["models", "#/models", modelStates, [["light", WIDE], ["dark", PHONE]]],
  ["runs", "#/runs", runStates, [["light", WIDE], ["dark", WIDE], ["dark", PHONE]]],
  ["signing in", "", signInStates, [["light", WIDE], ["dark", PHONE]]],
  ["drawer", "", drawerStates, [["light", PHONE], ["dark", PHONE]]],
];

for (const [name, hash, states, looks] of VIEWS)
  for (const [scheme, size] of looks)
    test(`${name}, ${scheme}, ${size.width} wide`, async () => {
      const from = name === "signing in" ? keyed : { url: proxy.url };
      const page = await open(browser, from, { scheme, size, hash, noise: /40[13]|ERR_INCOMPLETE|ERR_EMPTY|ERR_CONNECTION/ });
      const faults = [];
      for await (const state of states(page)) await accessible(page, state).catch((error) => faults.push(`${state}: ${error.message}`));
      if (faults.length > 0) throw new Error(faults.join("\n\n"));
      await close(page);
    });
