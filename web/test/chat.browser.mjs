// The chat as people use it, against a server without keys: history stays in the browser.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { readFile } from "node:fs/promises";
import { accessible, close, fits, launch, open, PHONE, until, WIDE } from "./browser.mjs";
import { Chat, requests } from "./chat.mjs";
import { between } from "./proxy.mjs";
import { Server } from "./server.mjs";
import { holding, LANGUAGES, words } from "./words.mjs";

let browser;
let server;
before(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Opens a chat, works in it, and looks that nothing happened that must not. */
async function chatting(how, work) {
  const page = await open(browser, server, how);
  const chat = await Chat.of(page, how.language);
  await work(chat, page);
  await close(page);
}

for (const language of LANGUAGES)
  for (const size of [WIDE, PHONE])
    test(`asks, reads, asks again: ${language}, ${size.width} wide`, () =>
      chatting({ language, size, scheme: size === PHONE ? "dark" : "light" }, async (chat, page) => {
        const { say } = chat;
        assert.match(await page.locator("html").getAttribute("lang"), new RegExp(`^${language}`));
        await page.getByRole("heading", { name: say.welcome }).waitFor();
        assert.equal(await chat.send.isDisabled(), true);
        const answer = await chat.ask("hello");
        const fold = chat.thought(answer);
        await fold.waitFor();
        // Its time and its tokens stand in its name.
        assert.match(await fold.innerText(), /\d+ ?(?:ms|s|min)[\s\S]*\d+/);
        assert.equal(await fold.getAttribute("aria-expanded"), "false");
        await fold.click();
        assert.equal(await fold.getAttribute("aria-expanded"), "true");
        // Tokens, time and energy, and all that is known behind them.
        await chat.opener(say.receipt, answer).click();
        const bill = page.getByRole("dialog", { name: say.receipt });
        for (const term of [say.bill.prompt, say.bill.answer, say.bill.whole, say.bill.energy, say.bill.money])
          await bill.getByText(term, { exact: true }).waitFor();
        await page.keyboard.press("Escape");
        await bill.waitFor({ state: "detached" });
        await chat.ask("and more");
        assert.equal(await chat.answers.count(), 2);
        await fits(page);
      }));

test("the keyboard alone: asks, opens the thought, stops, edits, searches", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    await page.waitForFunction(() => document.activeElement?.tagName === "TEXTAREA");
    await page.keyboard.type("hello there");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("second line");
    await page.keyboard.press("Enter");
    await chat.last.waitFor();
    await chat.done();
    assert.match(await chat.questions.last().innerText(), /hello there\s+second line/);
    // Backwards from the field to the thought's fold, which Enter opens.
    const fold = chat.thought();
    for (let step = 0; step < 30 && !(await fold.evaluate((own) => own === document.activeElement)); step += 1)
      await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    assert.equal(await fold.getAttribute("aria-expanded"), "true");
    const ring = await fold.evaluate((own) => getComputedStyle(own).outlineStyle);
    assert.notEqual(ring, "none", "the focus is seen");
    await page.keyboard.press("/");
    await page.waitForFunction(() => document.activeElement?.tagName === "TEXTAREA");
    // In an empty field, up edits the last question.
    await page.keyboard.press("ArrowUp");
    const editor = page.getByRole("article", { name: say.edit, exact: true }).getByRole("textbox");
    await editor.waitFor();
    await page.keyboard.type(" edited");
    await page.keyboard.press("Control+Enter");
    await chat.done();
    await page.getByLabel(say.version_of(2, 2)).first().waitFor();
    await page.keyboard.press("Control+k");
    const search = chat.history.getByRole("searchbox", { name: say.search });
    await search.waitFor();
    await page.waitForFunction(() => document.activeElement?.type === "search");
    await page.keyboard.press("Control+Shift+O");
    await page.getByRole("heading", { name: say.welcome }).waitFor();
    await page.keyboard.press("Control+,");
    await page.getByRole("dialog", { name: say.settings }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog", { name: say.settings }).waitFor({ state: "detached" });
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: say.shortcuts }).waitFor();
  }));

test("stops an answer and goes on with it", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    await chat.pick("wordy");
    await chat.begin("go on for ever");
    await page.getByRole("button", { name: say.answer_now }).waitFor();
    await chat.stop.click();
    await chat.done();
    await chat.last.getByText(say.ended.stopped).waitFor();
    const before = await chat.last.innerText();
    assert(before.length > 10);
    await chat.last.getByRole("button", { name: say.ended.go_on }).click();
    await chat.stop.waitFor();
    await page.keyboard.press("Escape");
    await chat.done();
    await chat.last.getByText(say.ended.stopped).waitFor();
  }));

test("stops the thought and gets the answer", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    await chat.pick("wordy");
    // Of the questions tried with the tests' seed the one that is thought about longest.
    await chat.begin("do not stop thinking");
    const fold = chat.thought();
    await fold.waitFor();
    assert.equal(await fold.getAttribute("aria-expanded"), "true", "a thought under way is open");
    // At once: on a quick machine also a long thought ends soon.
    await page.getByRole("button", { name: say.answer_now }).click();
    await page.getByRole("button", { name: holding(say.thought_for("").trim()) }).waitFor();
    await chat.stop.click();
    await chat.done();
    assert.equal(await fold.getAttribute("aria-expanded"), "false", "a thought that is done is folded");
  }));

test("thinking on, off and within a budget", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    const sent = requests(page, "/v1/chat/completions");
    await chat.thinking(say.think_off);
    await chat.ask("at once");
    assert.deepEqual(sent.at(-1).thinking, { type: "disabled" });
    assert.equal(await chat.thought().count(), 0);
    await chat.pick("wordy");
    await chat.thinking(say.tokens(256));
    await chat.begin("a little");
    await page.getByRole("button", { name: holding(say.thought_for("").trim()) }).waitFor();
    assert.deepEqual(sent.at(-1).thinking, { type: "enabled", budget_tokens: 256 });
    await chat.stop.click();
    await chat.done();
    const tokens = Number(/(\d+) token/.exec(await chat.thought().innerText())[1]);
    assert(tokens <= 280, `${tokens} tokens of thought within a budget of 256`);
  }));

test("asks again, edits, branches, and goes between the branches", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    await chat.ask("the first");
    const first = await chat.last.innerText();
    await chat.choose(chat.last.getByRole("button", { name: say.regenerate, exact: true }), say.regenerate);
    await chat.done();
    await chat.last.getByLabel(say.version_of(2, 2)).waitFor();
    await chat.last.getByRole("button", { name: say.version_before }).click();
    await chat.last.getByLabel(say.version_of(1, 2)).waitFor();
    assert.equal((await chat.last.innerText()).split("\n")[0], first.split("\n")[0]);
    await chat.questions.first().getByRole("button", { name: say.edit, exact: true }).click();
    const editor = page.getByRole("article", { name: say.edit, exact: true });
    await editor.getByRole("textbox").fill("another first");
    await editor.getByRole("button", { name: say.send, exact: true }).click();
    await chat.done();
    await chat.questions.first().getByLabel(say.version_of(2, 2)).waitFor();
    assert.match(await chat.questions.first().innerText(), /another first/);
    await chat.questions.first().getByRole("button", { name: say.version_before }).click();
    assert.match(await chat.questions.first().innerText(), /(?:^|\n)the first/);
    // An answer by another model is a branch as well.
    await chat.choose(chat.last.getByRole("button", { name: say.regenerate, exact: true }), /wordy/);
    await chat.stop.click();
    await chat.done();
    await page.getByRole("article", { name: say.answer_of("wordy") }).waitFor();
    // How it ended is said once; another version that is looked at has not ended now.
    const said = page.getByRole("status").filter({ hasText: say.ended.stopped });
    await said.waitFor();
    await chat.last.getByRole("button", { name: say.version_before }).click();
    await page.getByRole("article", { name: say.answer_of("wordy") }).waitFor({ state: "detached" });
    await page.waitForTimeout(200);
    assert.equal(await said.count(), 1);
  }));

test("compares two models and goes on with one", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    await chat.button(say.compare).first().click();
    await chat.opener(say.second_model).click();
    await page.getByRole("menuitemradio", { name: /tiny/ }).click();
    await chat.button(say.second_settings).click();
    const drawer = page.getByRole("dialog", { name: say.second_settings });
    await drawer.getByRole("spinbutton", { name: say.dials.temperature }).fill("1.5");
    await page.keyboard.press("Tab");
    await drawer.getByRole("button", { name: say.close }).click();
    await chat.begin("which one");
    await chat.answers.nth(1).waitFor();
    await chat.done();
    assert.equal(await chat.answers.count(), 2);
    await page.getByText(`${say.dials.temperature} 1.5`, { exact: false }).first().waitFor();
    await chat.button(say.prefer).click();
    await chat.button(say.compare_end).first().click();
    await chat.ask("and then");
    assert.equal(await chat.answers.count(), 3);
  }));

test("settings, a system prompt, and what they are sent as", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    const sent = requests(page, "/v1/chat/completions");
    await chat.button(say.settings).click();
    const drawer = page.getByRole("dialog", { name: say.settings });
    await drawer.getByRole("textbox", { name: say.system }).fill("Speak like a pirate.");
    await drawer.getByRole("spinbutton", { name: say.dials.temperature }).fill("0.3");
    await drawer.getByRole("spinbutton", { name: say.dials.max_tokens }).fill("40");
    await drawer.getByRole("button", { name: say.more_settings, exact: true }).click();
    await drawer.getByRole("spinbutton", { name: say.dials.seed }).fill("7");
    await drawer.getByRole("radio", { name: say.think_on_short, exact: true }).click();
    await drawer.getByRole("spinbutton", { name: say.budget }).fill("12");
    await page.keyboard.press("Tab");
    await drawer.getByRole("button", { name: say.close }).click();
    await chat.ask("ahoy");
    const { messages, temperature, max_tokens, seed, thinking, stream } = sent.at(-1);
    assert.deepEqual(messages[0], { role: "system", content: "Speak like a pirate." });
    assert.deepEqual({ temperature, max_tokens, seed, thinking, stream }, {
      temperature: 0.3,
      max_tokens: 40,
      seed: 7,
      thinking: { type: "enabled", budget_tokens: 12 },
      stream: true,
    });
    await chat.button(holding(say.settings)).first().click();
    await drawer.getByRole("button", { name: say.reset, exact: true }).click();
    await drawer.getByRole("button", { name: say.close }).click();
    await chat.ask("again");
    assert.equal("temperature" in sent.at(-1), false);
  }));

test("verifies: how many agree, and each result", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    const sent = requests(page, "/v1/chat/completions");
    await chat.opener(say.verify).click();
    const panel = page.getByRole("dialog", { name: say.verify });
    const samples = panel.getByRole("spinbutton", { name: say.samples });
    await samples.fill("");
    await samples.press("Tab");
    assert.equal(await samples.getAttribute("placeholder"), "5", "an empty field shows how many it will be");
    await samples.fill("3");
    // One tab stop for all ways: arrow keys choose.
    await panel.getByRole("radio", { checked: true }).press("ArrowUp");
    assert.equal(await panel.getByRole("radio", { name: holding(say.checkers.json), checked: true }).count(), 1);
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    assert.equal(await panel.getByRole("radio", { name: holding(say.checkers.majority), checked: true }).count(), 1);
    await page.keyboard.press("Escape");
    const answer = await chat.ask("one or two");
    assert.deepEqual(sent.at(-1).verify, { checker: "majority", samples: 3 });
    await chat.opener(say.verdict.details, answer).click();
    assert.equal(await page.getByRole("dialog", { name: say.verdict.details }).getByRole("listitem").count(), 3);
  }));

test("a text file dropped in goes into the prompt with its name and its tokens", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    const sent = requests(page, "/v1/chat/completions");
    const data = await page.evaluateHandle(() => {
      const data = new DataTransfer();
      data.items.add(new File(["Column,Value\na,1\n"], "numbers.csv", { type: "text/csv" }));
      data.items.add(new File([new Uint8Array([0, 1, 2, 255, 0])], "picture.bin"));
      return data;
    });
    for (const kind of ["dragover", "drop"]) await page.locator("#main").locator("form").last().dispatchEvent(kind, { dataTransfer: data });
    const chips = page.getByRole("list", { name: say.files });
    const chip = chips.getByRole("button", { name: /numbers\.csv/ }).first();
    await chip.waitFor();
    await page.getByText(say.file_refused.binary("picture.bin")).waitFor();
    await page.waitForFunction((word) => document.querySelector("[role=main], main").innerText.includes(word), "token");
    await chip.click();
    await page.getByRole("dialog", { name: "numbers.csv" }).getByText("Column,Value").waitFor();
    await page.keyboard.press("Escape");
    await chat.ask("what is in it");
    const [{ content }] = sent.at(-1).messages;
    assert.match(content, /numbers\.csv[\s\S]*Column,Value\na,1[\s\S]*what is in it$/);
    await chat.questions.last().getByRole("button", { name: /numbers\.csv/ }).waitFor();
  }));

test("history: found, renamed, taken out, taken in, thrown away; a reload keeps everything", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    await chat.ask("about apples");
    await chat.kept("about apples");
    await chat.anew();
    await chat.ask("about pears");
    await chat.kept("about pears");
    const search = chat.history.getByRole("searchbox", { name: say.search });
    await search.fill("apples");
    await chat.entry("about pears").waitFor({ state: "detached" });
    await chat.entry("about apples").click();
    await chat.questions.filter({ hasText: "about apples" }).waitFor();
    await search.fill("nothing like this");
    await page.getByText(say.search_none).waitFor();
    await search.fill("");
    await chat.choose(say.deeds_of("about apples"), say.rename);
    const dialog = page.getByRole("dialog", { name: say.rename });
    await dialog.getByRole("textbox", { name: say.title }).fill("Fruit, first part");
    await dialog.getByRole("button", { name: say.save }).click();
    await chat.entry("Fruit, first part").waitFor();
    await page.reload();
    await chat.entry("Fruit, first part").waitFor();
    await chat.answers.first().waitFor();
    assert.match(await chat.questions.first().innerText(), /about apples/);
    assert.equal(await chat.thought().count(), 1, "the thought is kept");

    const take = async (entry) => {
      const coming = page.waitForEvent("download");
      await chat.choose(say.deeds_of("Fruit, first part"), entry);
      const file = await coming;
      return { name: file.suggestedFilename(), text: await readFile(await file.path(), "utf8") };
    };
    const markdown = await take(say.export_markdown);
    assert.match(markdown.name, /^Fruit, first part\.md$/);
    assert.match(markdown.text, /^# Fruit, first part\n[\s\S]*about apples/);
    const json = await take(say.export_json);
    assert.equal(JSON.parse(json.text).chats[0].title, "Fruit, first part");

    await chat.choose(say.deeds_of("Fruit, first part"), say.remove);
    await page.getByRole("dialog", { name: say.remove_title }).getByRole("button", { name: say.remove }).click();
    await chat.entry("Fruit, first part").waitFor({ state: "detached" });
    await page.getByRole("heading", { name: say.welcome }).waitFor();

    const choosing = page.waitForEvent("filechooser");
    await chat.choose(say.history_deeds, say.import_chats);
    await (await choosing).setFiles({ name: "chat.json", mimeType: "application/json", buffer: Buffer.from(json.text) });
    await chat.entry("Fruit, first part").waitFor();
    await chat.answers.first().waitFor();
    assert.match(await chat.questions.first().innerText(), /about apples/);
  }));

test("what is typed and not sent is there after a reload, its files too", () =>
  chatting({}, async (chat, page) => {
    const sent = requests(page, "/v1/chat/completions");
    const files = page.getByRole("list", { name: chat.say.files });
    await chat.field.fill("half a thought");
    await page.locator("input[type=file]:not([accept])").setInputFiles({ name: "kept.txt", mimeType: "text/plain", buffer: Buffer.from("in the file") });
    await files.getByText(/token/).waitFor();
    await page.reload();
    await page.waitForFunction(() => document.querySelector("textarea")?.value === "half a thought");
    await files.getByRole("button", { name: /kept\.txt.*token/ }).waitFor();
    await chat.send.click();
    await chat.done();
    assert.match(sent.at(-1).messages[0].content, /kept\.txt[\s\S]*in the file[\s\S]*half a thought$/);
    // What was sent is no draft any more.
    await page.reload();
    await chat.answers.first().waitFor();
    await page.waitForTimeout(300);
    assert.equal(await chat.field.inputValue(), "");
    await chat.anew();
    assert.equal(await files.count(), 0);
  }));

describe("a part of the page fails", () => {
  const noise = /made to fail/;
  /** Makes the page unable to write a number, which every view does. */
  const failing = (page, fails) =>
    page.evaluate((fails) => {
      window.written ??= Object.getOwnPropertyDescriptor(Intl.NumberFormat.prototype, "format");
      const broken = { get: () => () => { throw new Error("made to fail"); }, configurable: true };
      Object.defineProperty(Intl.NumberFormat.prototype, "format", fails ? broken : window.written);
    }, fails);

  test("an answer: the rest of the chat goes on, and the answer can be tried again", async () => {
    const proxy = await between(server);
    const page = await open(browser, { url: proxy.url }, { noise });
    const chat = await Chat.of(page);
    proxy.prepared = { answer: "a text that cannot be read" };
    await chat.ask("hello");
    await chat.kept("hello");
    await chat.anew();
    // From now on reading this text as Markdown throws.
    await page.evaluate(() => {
      const { exec } = RegExp.prototype;
      RegExp.prototype.exec = function (text) {
        if (String(text).includes("cannot be read")) throw new Error("made to fail");
        return exec.call(this, text);
      };
      window.mend = () => (RegExp.prototype.exec = exec);
    });
    await chat.entry("hello").click();
    const fault = page.getByRole("alert").filter({ hasText: chat.shell.broken });
    await fault.getByText(/made to fail/).waitFor();
    await chat.questions.first().waitFor();
    await chat.field.fill("still here");
    await page.evaluate(() => void window.mend());
    await fault.getByRole("button", { name: chat.shell.again }).click();
    await chat.answers.first().waitFor();
    assert.equal(await fault.count(), 0);
    assert.equal(await chat.field.inputValue(), "still here");
    await close(page);
    await proxy.close();
  });

  test("a view: says so, other views and what was typed are there, and it can be tried again", async () => {
    const page = await open(browser, server, { noise });
    const chat = await Chat.of(page);
    await chat.field.fill("what I was writing");
    await failing(page, true);
    await page.getByRole("link", { name: chat.shell.models, exact: true }).click();
    const fault = page.getByRole("alert").filter({ hasText: chat.shell.broken });
    await fault.getByRole("button", { name: chat.shell.reload }).waitFor();
    await accessible(page, "a view that failed");
    await failing(page, false);
    await page.getByRole("link", { name: chat.shell.chat, exact: true }).click();
    await chat.field.waitFor();
    assert.equal(await chat.field.inputValue(), "what I was writing");
    await failing(page, true);
    await page.goBack();
    await fault.waitFor();
    await failing(page, false);
    await fault.getByRole("button", { name: chat.shell.again }).click();
    await page.getByRole("heading", { name: chat.shell.models, exact: true }).waitFor();
    await close(page);
  });
});

describe("the server refuses", () => {
  const noise = /status of (?:404|503)/;
  const refusing = async (page, status, error) => {
    await page.route("**/v1/chat/completions", (route) =>
      route.fulfill({ status, contentType: "application/json", body: JSON.stringify({ error: { param: null, type: "x", code: null, ...error } }) }), { times: 1 });
  };

  test("a model that is gone: another one is chosen, and that one is asked", async () => {
    const page = await open(browser, server, { noise });
    const chat = await Chat.of(page);
    const sent = requests(page, "/v1/chat/completions");
    await refusing(page, 404, { message: "the model `tiny` does not exist", code: "model_not_found" });
    await chat.begin("who is there");
    await page.getByText(chat.say.faults.no_model, { exact: true }).waitFor();
    await chat.thinking(chat.say.think_off);
    await chat.pick("wordy");
    await chat.last.getByRole("button", { name: chat.say.ended.again }).click();
    await chat.stop.waitFor();
    assert.equal(sent.at(-1).model, "wordy");
    assert.deepEqual(sent.at(-1).thinking, { type: "disabled" });
    await chat.stop.click();
    await chat.done();
    assert.equal(await chat.answers.count(), 1);
    await page.getByRole("article", { name: chat.say.answer_of("wordy") }).waitFor();
    await page.getByRole("status").filter({ hasText: chat.say.ended.stopped }).waitFor();
    await close(page);
  });

  test("a model that cannot be loaded is not said to be ready soon", async () => {
    const page = await open(browser, server, { noise });
    const chat = await Chat.of(page);
    await refusing(page, 503, { message: "the model could not be loaded", code: "model_cannot_be_loaded" });
    await chat.begin("hello");
    const fault = page.getByRole("alert").filter({ hasText: chat.say.faults.cannot_load });
    await fault.getByText(chat.say.faults.cannot_load_about).waitFor();
    await fault.getByRole("button", { name: chat.say.faults.models }).waitFor();
    assert.equal(await fault.getByText(chat.say.faults.later).count(), 0);
    await close(page);
  });
});

test("a model that does not think is not offered thinking, nor asked for it", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    const sent = requests(page, "/v1/chat/completions");
    await chat.thinking(say.think_off);
    await page.route("**/v1/models", async (route) => {
      const answer = await route.fetch();
      const { data, ...rest } = await answer.json();
      assert.equal(data.find(({ id }) => id === "tiny").about.thinks, true);
      const all = data.map((model) => (model.id === "tiny" ? { ...model, about: { ...model.about, thinks: false } } : model));
      await route.fulfill({ response: answer, json: { ...rest, data: all } });
    });
    await page.reload();
    await chat.opener(say.model).filter({ hasText: "tiny" }).waitFor();
    assert.equal(await chat.opener(say.think_menu).count(), 0);
    await chat.ask("at once");
    assert.equal("thinking" in sent.at(-1), false);
    await chat.button(holding(say.settings)).first().click();
    const drawer = page.getByRole("dialog", { name: say.settings });
    await drawer.getByText(say.cannot_think("tiny")).waitFor();
    await drawer.getByRole("button", { name: say.close }).click();
    await chat.pick("wordy");
    await chat.opener(say.think_menu).waitFor();
  }));

test("links by reference lead where the end of the answer says", async () => {
  const proxy = await between(server);
  const many = "and on it goes. ".repeat(30);
  proxy.prepared = { answer: `See [the page][1].\n\n${many}\n\nOr [2], or [not this][3].\n\n[1]: https://one.example/a\n[2]: <https://two.example/>\n\n[3]: javascript:ran(1)\n`, pieces: 60 };
  const page = await open(browser, { url: proxy.url });
  const chat = await Chat.of(page);
  const answer = await chat.ask("where");
  const links = () => answer.getByRole("link").evaluateAll((all) => all.map((own) => [own.textContent, own.getAttribute("href")]));
  const wanted = [["the page", "https://one.example/a"], ["2", "https://two.example/"]];
  assert.deepEqual(await links(), wanted);
  assert.match(await answer.innerText(), /\[not this\]\[3\]/);
  assert.doesNotMatch(await answer.innerText(), /\[1\]:/);
  await page.reload();
  await answer.getByRole("link").first().waitFor();
  assert.deepEqual(await links(), wanted);
  await close(page);
  await proxy.close();
});

test("another version of a turn stays where it was looked for", async () => {
  const proxy = await between(server);
  const page = await open(browser, { url: proxy.url });
  const chat = await Chat.of(page);
  proxy.prepared = { answer: "short" };
  await chat.ask("first");
  await chat.choose(chat.last.getByRole("button", { name: chat.say.regenerate, exact: true }), chat.say.regenerate);
  await chat.done();
  proxy.prepared = { answer: "a line\n\n".repeat(80) };
  await chat.ask("second");
  const place = () => page.locator(".turns").evaluate((own) => own.scrollTop);
  await page.locator(".turns").evaluate((own) => (own.scrollTop = 0));
  await chat.button(chat.say.to_end).waitFor();
  await chat.button(chat.say.version_before).click();
  await chat.button(chat.say.version_after).click();
  await page.waitForTimeout(200);
  assert(await place() < 100, `scrolled to ${await place()}`);
  await close(page);
  await proxy.close();
});

test("answers and code are copied", async () => {
  const proxy = await between(server);
  proxy.prepared = { answer: "Take **this**:\n\n```js\nlet a = 1;\n```\n" };
  const page = await open(browser, { url: proxy.url });
  const chat = await Chat.of(page);
  const { say } = chat;
  const clip = () => page.evaluate(() => navigator.clipboard.readText());
  await chat.ask("hello");
  await chat.last.getByRole("button", { name: chat.text.copy_code }).click();
  await chat.last.getByRole("button", { name: chat.text.copied }).waitFor();
  assert.equal(await clip(), "let a = 1;");
  await chat.last.getByRole("button", { name: say.copy_answer }).click();
  await chat.last.getByRole("button", { name: say.copied }).last().waitFor();
  assert.equal(await clip(), proxy.prepared.answer);
  await close(page);
  await proxy.close();
});

test("the model's card is one click away", () =>
  chatting({}, async (chat, page) => {
    const { say } = chat;
    await chat.button(say.about_model("tiny")).click();
    const card = page.getByRole("dialog", { name: say.about_model("tiny") });
    for (const term of [say.card.base, say.card.size, say.card.method, say.card.licence, say.card.cost]) await card.getByText(term, { exact: true }).waitFor();
    await card.getByRole("link", { name: say.card.open }).click();
    await page.waitForURL(/#\/models\/tiny/);
  }));

test("the language and the appearance can be chosen, and stay chosen", () =>
  chatting({}, async (chat, page) => {
    await chat.choose(chat.shell.preferences, "Deutsch");
    const german = await words("de");
    await page.getByRole("heading", { name: german.chat.welcome }).waitFor();
    await chat.choose(german.shell.preferences, german.shell.theme_dark);
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
    // A menu opens at what is chosen, and goes up and down.
    await chat.opener(german.shell.preferences).click();
    const chosen = page.getByRole("menuitemradio", { name: german.shell.theme_dark });
    const isAt = (entry) => entry.evaluate((own) => own === document.activeElement);
    assert(await isAt(chosen), "at the theme that is chosen");
    await page.keyboard.press("ArrowLeft");
    assert(await isAt(chosen), "left leads nowhere");
    await page.keyboard.press("ArrowUp");
    assert.equal(await isAt(chosen), false);
    await page.keyboard.press("Escape");
    await page.reload();
    await page.getByRole("heading", { name: german.chat.welcome }).waitFor();
    assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
  }));

describe("the server goes away", () => {
  const noise = /ERR_CONNECTION|ERR_INCOMPLETE|ERR_NETWORK|Failed to load resource/;

  test("in the middle of an answer: says so, keeps what came and what was typed, and goes on", async () => {
    const own = await Server.start();
    const page = await open(browser, own, { noise });
    const chat = await Chat.of(page);
    const { say } = chat;
    await chat.pick("wordy");
    await chat.thinking(say.think_off);
    await chat.begin("a long story");
    await page.waitForFunction(() => (document.querySelector("article:last-of-type")?.innerText.length ?? 0) > 200);
    await chat.field.fill("the next question");
    await own.kill();
    await page.getByText(say.faults.lost, { exact: true }).waitFor();
    const kept = (await chat.last.innerText()).slice(0, 150);
    assert.equal(await chat.field.inputValue(), "the next question");
    await page.reload().catch(() => undefined);
    await own.go();
    await page.goto(own.url);
    await chat.entry("a long story").click();
    await chat.last.waitFor();
    assert((await chat.last.innerText()).startsWith(kept.slice(0, 100)), "the text is kept");
    await chat.last.getByRole("button", { name: say.ended.go_on }).click();
    await chat.stop.waitFor();
    await chat.stop.click();
    await chat.done();
    await own.stop();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test("before a question: the question is kept and can be asked again", async () => {
    const own = await Server.start();
    const page = await open(browser, own, { noise });
    const chat = await Chat.of(page);
    await chat.ask("hello");
    await own.kill();
    await chat.begin("are you there");
    await page.getByText(chat.say.faults.unreachable, { exact: true }).waitFor();
    await own.go();
    await chat.last.getByRole("button", { name: chat.say.ended.again }).click();
    await chat.done();
    assert.equal(await chat.answers.count(), 2);
    await page.getByText(chat.say.faults.unreachable, { exact: true }).waitFor({ state: "detached" });
    await own.stop();
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
});

test("it opens without a connection once it was there", async () => {
  const own = await Server.start();
  const page = await open(browser, own, { worker: true, noise: /ERR_CONNECTION|Failed to load resource/ });
  const chat = await Chat.of(page);
  await chat.ask("hello");
  await chat.kept("hello");
  await page.evaluate(() => navigator.serviceWorker.ready);
  await until(page, async () => (await caches.keys()).length > 0);
  await own.kill();
  await page.reload();
  await page.getByText(chat.shell.no_connection).waitFor();
  await own.go();
  await page.getByRole("button", { name: chat.shell.again }).click();
  await chat.entry("hello").waitFor();
  await own.stop();
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
