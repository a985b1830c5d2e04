// The catalogue: found, filtered, looked at; fetched, checked, loaded, unloaded, removed by who may.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { close, fits, launch, open, PHONE, WIDE } from "./browser.mjs";
import { Chat } from "./chat.mjs";
import { hub } from "./hub.mjs";
import { Server } from "./server.mjs";
import { holding, LANGUAGES, words } from "./words.mjs";

let browser;
let makers;
let server;
before(async () => {
  makers = await hub();
  [browser, server] = await Promise.all([launch(), Server.start({ environment: { HF_ENDPOINT: makers.url } })]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await makers?.close();
});

const button = (where, name) => where.getByRole("button", { name, exact: true });

for (const language of LANGUAGES)
  for (const size of [WIDE, PHONE])
    test(`lists, searches, filters, opens: ${language}, ${size.width} wide`, async () => {
      const { models: say } = await words(language);
      const page = await open(browser, server, { language, size, hash: "#/models" });
      const row = (name) => page.getByRole("main").getByRole("link", { name: holding(name) });
      await row("wordy").waitFor();
      await page.getByRole("searchbox", { name: say.search }).fill("tin");
      await row("wordy").waitFor({ state: "detached" });
      await row("tiny").waitFor();
      await page.getByRole("searchbox", { name: say.search }).fill("no such model");
      await page.getByRole("heading", { name: say.nothing }).waitFor();
      await button(page, say.clear).first().click();
      await row("wordy").waitFor();
      const sizes = page.getByRole("combobox", { name: say.size });
      await sizes.selectOption({ index: (await sizes.getByRole("option").count()) - 1 });
      await page.getByRole("heading", { name: say.nothing }).waitFor();
      await button(page, say.clear).first().click();
      await row("tiny").click();
      for (const heading of [say.speed, say.about]) await page.getByRole("heading", { name: heading }).waitFor();
      for (const term of [say.architecture, say.n_parameters, say.size_files, say.licence]) await page.getByText(term, { exact: true }).first().waitFor();
      await fits(page);
      await page.getByRole("link", { name: say.back }).first().click();
      await row("wordy").waitFor();
      await close(page);
    });

test("a long name leaves room for what else is there, on the smallest phone", async () => {
  const { models: say } = await words("de");
  const name = "somebody-with-a-name/An-Extraordinarily-Long-Model-Name-v2.1-Instruct";
  const page = await open(browser, server, { size: PHONE, language: "de", hash: "#/chat" });
  await page.setViewportSize({ width: 360, height: 740 });
  const job = { id: "1", kind: "pull", name, started_at: 0, state: "running", done_bytes: 1, total_bytes: 9, file: `${name}.gguf`, message: null };
  await page.route("**/web/jobs", (route) => route.fulfill({ json: { data: [job] } }));
  await page.route("**/web/jobs/1/events", (route) => route.fulfill({ contentType: "text/event-stream", body: "" }));
  await page.route("**/web/models/*", async (route) => {
    const response = await route.fetch({ url: `${server.url}/web/models/tiny` });
    return route.fulfill({ response, json: { ...(await response.json()), name } });
  });
  await page.evaluate((name) => (location.hash = `#/models/${encodeURIComponent(name)}`), name);
  await page.getByRole("progressbar", { name: say.job_pull(name) }).waitFor();
  await page.getByRole("heading", { name: say.about, exact: true }).waitFor();
  await fits(page);
  await page.evaluate(() => (location.hash = "#/models"));
  await page.getByRole("searchbox", { name: say.search }).waitFor();
  await fits(page);
  await close(page);
});

test("loads, chats, measures, unloads", async () => {
  const { models: say } = await words("en");
  const page = await open(browser, server, { hash: "#/models/tiny" });
  const unload = button(page, say.unload);
  await unload.or(button(page, say.load)).first().waitFor();
  if (await unload.isVisible()) {
    await unload.click();
    await page.getByText(say.is_unloaded("tiny")).waitFor();
  }
  await button(page, say.load).click();
  await page.getByText(say.is_loaded("tiny")).waitFor();
  await unload.waitFor();
  await button(page, say.make_forecast).click();
  await button(page, say.make_forecast).waitFor({ state: "detached", timeout: 60_000 });
  await page.getByText(say.prompts, { exact: true }).waitFor();
  await button(page, say.chat).click();
  await new Chat(page, await words("en")).ask("hello");
  await page.goto(`${server.url}/#/models/tiny`);
  await page.getByText(holding(say.since)).waitFor();
  await close(page);
});

test("fetches with progress, calls off, goes on, checks, shows the descent, removes", async () => {
  const { models: say } = await words("en");
  makers.pace = 400;
  const page = await open(browser, server, { hash: "#/models" });
  const fetch = async () => {
    await button(page, say.fetch).click();
    const dialog = page.getByRole("dialog", { name: say.pull_title });
    const field = dialog.getByRole("textbox", { name: say.pull_name });
    await field.fill("not a name at all");
    await button(dialog, say.pull_go).click();
    await dialog.getByText(say.pull_wrong).waitFor();
    await field.fill(makers.name);
    await button(dialog, say.pull_go).click();
    await dialog.waitFor({ state: "detached" });
  };
  await fetch();
  const progress = page.getByRole("progressbar", { name: say.job_pull(makers.name) });
  await progress.waitFor();
  await page.waitForFunction(() => Number(document.querySelector("[role=progressbar]")?.getAttribute("aria-valuenow") ?? 0) > 5);
  await button(page, say.job_cancel).click();
  await progress.waitFor({ state: "detached" });
  makers.pace = 0;
  await fetch();
  await page.getByText(say.pulled(makers.name)).waitFor();
  await page.getByRole("main").getByRole("link", { name: holding(makers.name) }).first().click();
  await page.getByRole("heading", { name: say.descent }).waitFor();
  await page.getByRole("group", { name: new RegExp(`Makers/tiny-base.*${makers.name}`) }).waitFor();
  await page.getByText("It says nothing of sense.", { exact: false }).waitFor();
  await button(page, say.more).click();
  await page.getByRole("menuitem", { name: say.verify }).click();
  await page.getByText(say.verified(makers.name)).waitFor();
  await button(page, say.more).click();
  await page.getByRole("menuitem", { name: holding(say.remove) }).click();
  const dialog = page.getByRole("dialog", { name: say.remove_title(makers.name) });
  await button(dialog, say.remove).click();
  await page.getByText(say.removed(makers.name)).waitFor();
  await page.goto(`${server.url}/#/models`);
  await page.getByRole("main").getByRole("link", { name: holding("wordy") }).waitFor();
  assert.equal(await page.getByRole("main").getByRole("link", { name: holding(makers.name) }).count(), 0);
  await close(page);
});

test("what there is not, in words", async () => {
  const { models: say } = await words("en");
  const page = await open(browser, server, { hash: "#/models/nobody%2Fnothing", noise: /404/ });
  await page.getByText(say.gone, { exact: true }).waitFor();
  await close(page);
});

test("who may not manage sees no such button, and the server refuses", async () => {
  const { models: say, shell } = await words("en");
  const own = await Server.start({ flags: ["--keys-required"], keys: [["bob"]] });
  const page = await open(browser, own, { noise: /40[13]/, hash: "#/models" });
  await page.getByLabel(shell.key, { exact: true }).fill(own.keys.bob);
  await button(page, shell.sign_in).click();
  await page.getByRole("main").getByRole("link", { name: holding("tiny") }).click();
  await page.getByRole("heading", { name: say.about, exact: true }).waitFor();
  for (const name of [say.load, say.unload, say.more, say.fetch]) assert.equal(await button(page, name).count(), 0, name);
  const refused = await page.evaluate(async () => {
    const ask = async (path, method, body) => (await fetch(path, { method, headers: { "content-type": "application/json" }, body })).status;
    return [await ask("/web/models/tiny/unload", "POST", "{}"), await ask("/web/models/pull", "POST", '{"name":"a/b"}'), await ask("/web/models/tiny", "DELETE")];
  });
  assert(refused.every((status) => status === 403), String(refused));
  await close(page);
  await own.stop();
});
