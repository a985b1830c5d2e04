// What people do in the chat, in front of a real server.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { answerWith, ask, browse, serve, skip, stream } from "./page.mjs";

describe("the chat", { skip }, () => {
  let server;
  let browser;
  before(async () => {
    server = await serve();
    browser = await browse();
  });
  after(async () => {
    await browser?.stop();
    server?.stop();
  });

  test("a question is answered by the model itself, and can be found again", async () => {
    const { page, faults } = await browser.open(server.url);
    await ask(page, "2 12 6 make 4");
    assert.match(await page.textContent(".answer .receipt-line"), /tokens/);
    assert.match(page.url(), /#\/chat\/[0-9a-f-]{36}$/);
    await page.waitForSelector(".line.here");
    await page.reload();
    await page.waitForSelector(".answer .turn-foot");
    assert.equal(await page.textContent(".bubble p"), "2 12 6 make 4");
    await page.click(".new-chat");
    await page.waitForSelector(".welcome");
    assert.deepEqual(faults, []);
  });

  test("a thought is folded once the answer comes, and tells its tokens", async () => {
    const { page } = await browser.open(server.url);
    const asked = await answerWith(page, stream({ thought: "let me see", answer: "**four**" }));
    await ask(page, "how many?");
    assert.equal(await page.textContent(".answer .prose strong"), "four");
    const toggle = page.locator(".thought-toggle");
    assert.equal(await toggle.getAttribute("aria-expanded"), "false");
    assert.match(await toggle.textContent(), /4 tokens/);
    await toggle.click();
    assert.equal((await page.textContent(".thought-text")).trim(), "let me see");
    await page.click(".answer .receipt-line");
    assert.match(await page.textContent(".bill"), /estimated/);
    assert.deepEqual(asked[0].messages, [{ role: "user", content: "how many?" }]);
    assert.deepEqual(asked[0].stream_options, { include_usage: true });
  });

  test("asking again and asking otherwise branch; every version stays", async () => {
    const { page } = await browser.open(server.url);
    const asked = await answerWith(page, stream({ answer: "one" }), stream({ answer: "two" }), stream({ answer: "three" }));
    await ask(page, "first");
    await page.click('.answer [aria-label="Answer again"]');
    await page.keyboard.press("Enter");
    await page.waitForSelector("text=two");
    assert.equal((await page.textContent(".answer .versions")).trim(), "2/2");
    await page.click('[aria-label="Version before"]');
    await page.waitForSelector("text=one");
    await page.hover(".question");
    await page.click('.question [aria-label="Edit"]');
    await page.fill(".editor textarea", "second");
    await page.click(".editor .primary");
    await page.waitForSelector("text=three");
    assert.deepEqual(asked.at(-1).messages, [{ role: "user", content: "second" }]);
    await page.click('.question [aria-label="Version before"]');
    await page.waitForSelector(".answer .versions");
    assert.equal(await page.textContent(".bubble p"), "first");
  });

  test("a lost connection keeps what came; the model goes on from there", async () => {
    const { page } = await browser.open(server.url);
    const asked = await answerWith(page, stream({ thought: "hm", answer: "It is fo", isCut: true }), stream({ answer: "ur." }));
    await ask(page, "how many?");
    await page.waitForSelector(".note >> text=The connection was lost.");
    await page.click(".note >> text=Continue");
    await page.waitForSelector("text=It is four.");
    assert.deepEqual(asked[1].messages.at(-1), { role: "assistant", content: "It is fo", reasoning_content: "hm", prefix: true });
  });

  test("faults are told in plain words, with what to do", async () => {
    const fault = (status, code, type = "x", headers = {}) => ({
      status,
      headers,
      contentType: "application/json",
      body: JSON.stringify({ error: { message: "m", type, param: null, code } }),
    });
    const rows = [
      [fault(429, "rate_limit_exceeded", "rate_limit_error", { "retry-after": "7" }), "The server is busy.", "Try again in 7 seconds."],
      [fault(503, "unavailable"), "The model is not ready.", "Try again"],
      [fault(413, "request_too_large"), "That is more than the server takes at once.", "New chat"],
      [fault(401, "invalid_api_key"), "You are not signed in, or your key is no longer valid.", "Sign in"],
      [fault(404, "model_not_found"), "The server does not have this model.", "To the models"],
      [fault(400, "context_length_exceeded"), "The conversation is longer than the model can keep in view.", "New chat"],
    ];
    for (const [answer, title, about] of rows) {
      const { page, context } = await browser.open(server.url);
      await answerWith(page, answer);
      await ask(page, "x");
      const words = await page.textContent(".note");
      assert.ok(words.includes(title) && words.includes(about), `${words} | ${title} | ${about}`);
      await context.close();
    }
  });

  test("settings are sent as they are set, and only those", async () => {
    const { page } = await browser.open(server.url);
    const asked = await answerWith(page, stream({ answer: "a" }));
    await page.keyboard.press("Control+,");
    await page.getByLabel("System prompt").fill("be brief");
    await page.getByRole("spinbutton", { name: "Temperature" }).fill("0.3");
    await page.getByRole("radiogroup", { name: "Thinking" }).getByRole("radio", { name: "On" }).click();
    await page.getByLabel("Tokens at most").fill("64");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Escape");
    await ask(page, "x");
    const { model, stream: isStream, stream_options, ...rest } = asked[0];
    assert.ok(model && isStream && stream_options);
    assert.deepEqual(rest, {
      messages: [
        { role: "system", content: "be brief" },
        { role: "user", content: "x" },
      ],
      temperature: 0.3,
      thinking: { type: "enabled", budget_tokens: 64 },
    });
  });

  test("text files go into the prompt with their names; others are refused", async () => {
    const { page } = await browser.open(server.url);
    const asked = await answerWith(page, stream({ answer: "a" }));
    await page.setInputFiles(".composer input[type=file]", [
      { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("one\r\ntwo") },
      { name: "picture.png", mimeType: "image/png", buffer: Buffer.from([0x89, 0x50, 0, 255]) },
    ]);
    await page.waitForSelector(".toast >> text=picture.png is not a text file.");
    await ask(page, "read");
    assert.equal(asked[0].messages[0].content, "[file name]: notes.txt\n[file content begin]\none\ntwo\n[file content end]\nread");
    assert.equal(await page.locator(".question .chip").count(), 1);
  });

  test("chats are searched, renamed, exported, deleted and imported", async () => {
    const { page } = await browser.open(server.url);
    await answerWith(page, stream({ thought: "t", answer: "green tea" }));
    await ask(page, "what to drink");
    await page.waitForSelector(".line");
    await page.fill("#chat-search", "green drink");
    await page.waitForTimeout(400);
    assert.equal(await page.locator(".line").count(), 1);
    await page.fill("#chat-search", "coffee");
    await page.waitForSelector("text=No chat has these words.");
    await page.fill("#chat-search", "");
    await page.waitForSelector(".line");
    const deed = async (name) => {
      await page.hover(".line");
      await page.click(".line .button");
      await page.click(`.popover >> text=${name}`);
    };
    const [markdown] = await Promise.all([page.waitForEvent("download"), deed("Export as Markdown")]);
    assert.equal(markdown.suggestedFilename(), "what to drink.md");
    assert.match(readFileSync(await markdown.path(), "utf8"), /green tea/);
    const [json] = await Promise.all([page.waitForEvent("download"), deed("Export as JSON")]);
    const kept = readFileSync(await json.path());
    await deed("Rename");
    await page.getByLabel("Title").fill("Tea");
    await page.keyboard.press("Enter");
    await page.waitForSelector('.line >> text="Tea"');
    await deed("Delete");
    await page.click("dialog .danger");
    await page.waitForSelector("text=Your chats will be listed here.");
    await page.setInputFiles(".history-head input[type=file]", { name: "chat.json", mimeType: "application/json", buffer: kept });
    await page.waitForSelector(".answer >> text=green tea");
  });

  test("two settings answer side by side, and one is gone on with", async () => {
    const { page } = await browser.open(server.url);
    const asked = await answerWith(page, stream({ answer: "left" }), stream({ answer: "right" }), stream({ answer: "on" }));
    await page.click('[aria-label="Compare two answers"]');
    await page.fill(".composer textarea", "x");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll(".pair .turn-foot").length === 2);
    await page.click("text=Go on with this one");
    const chosen = await page.textContent(".pair .answer:not(.other) .prose");
    await page.click('.answerers [aria-label="End the comparison"]');
    await ask(page, "y");
    assert.equal(asked[2].messages[1].content, chosen.trim());
  });

  test("what was typed outlives the page, and a new chat is one key away", async () => {
    const { page } = await browser.open(server.url);
    await page.keyboard.type("half a thought");
    await page.reload();
    await page.waitForSelector(".composer textarea");
    assert.equal(await page.inputValue(".composer textarea"), "half a thought");
  });

  test("the whole way by keyboard alone", async () => {
    const { page } = await browser.open(server.url);
    await answerWith(page, stream({ answer: "one" }));
    await page.keyboard.type("hello");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".answer .turn-foot");
    await page.keyboard.press("ArrowUp");
    await page.waitForSelector(".editor");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+k");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "chat-search");
    await page.keyboard.press("Control+Shift+O");
    await page.waitForSelector(".welcome");
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press("?");
    await page.waitForSelector("dialog .shortcuts");
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "TEXTAREA");
  });

  test("three languages, chosen by the browser and switched by hand", async () => {
    for (const [language, words] of [
      ["en-GB", "New chat"],
      ["de-AT", "Neuer Chat"],
      ["zh-CN", "新对话"],
    ]) {
      const { page, context } = await browser.open(server.url, { language });
      assert.equal((await page.textContent(".new-chat")).trim(), words);
      await page.click(".rail-foot .button");
      await page.click(".popover >> text=Deutsch");
      assert.equal((await page.textContent(".new-chat")).trim(), "Neuer Chat");
      assert.equal(await page.getAttribute("html", "lang"), "de");
      await context.close();
    }
  });

  test("what one key's owner had in front, the next one does not see", async () => {
    const { page } = await browser.open(server.url);
    const id = "11111111-1111-4111-8111-111111111111";
    const turns = {
      a: { parent: null, role: "user", content: "secret question" },
      b: { parent: "a", role: "assistant", content: "secret answer", finish: "stop" },
    };
    const document = { version: 1, model: "m", settings: {}, system: "", leaf: "b", nodes: turns };
    const entry = { id, title: "secret title", updated_at: 1, revision: 1, model: "m", turns: 2 };
    let name = "ada";
    await page.route("**/web/session", async (route) => {
      const method = route.request().method();
      if (method === "DELETE") name = null;
      if (method === "POST") name = route.request().postDataJSON().key;
      const session = { keyed: true, name, may_manage: false, version: null, default_model: null, history: "server", runs: false, price: null };
      await (method === "DELETE" ? route.fulfill({ status: 204 }) : route.fulfill({ json: session }));
    });
    await page.route("**/web/chats?*", (route) => route.fulfill({ json: { data: name === "ada" ? [entry] : [], next: null } }));
    await page.route(`**/web/chats/${id}`, (route) =>
      name === "ada" ? route.fulfill({ json: { ...entry, document } }) : route.fulfill({ status: 404, json: { error: { message: "none" } } }),
    );
    await page.goto(`${server.url}#/chat/${id}`);
    await page.reload();
    await page.waitForSelector("text=secret answer");
    await page.fill(".composer textarea", "half a secret");
    await page.click(".rail-foot .button");
    await page.click("text=Sign out");
    await page.fill(".signin input", "bob");
    await page.click(".signin button");
    await page.waitForSelector("text=This chat does not exist.");
    assert.equal(await page.locator("text=secret").count(), 0);
    const kept = await page.evaluate(() => JSON.stringify(localStorage));
    assert.ok(!kept.includes("secret"), kept);
  });

  test("the page opens without its server, from what it kept", async () => {
    const { page, context } = await browser.open(server.url);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    await page.waitForTimeout(500);
    await context.setOffline(true);
    await page.reload();
    await page.waitForSelector(".composer textarea");
    await page.waitForSelector(".banner");
    const names = await page.evaluate(async () => {
      const caches_ = await Promise.all((await caches.keys()).map((name) => caches.open(name)));
      const all = await Promise.all(caches_.map((cache) => cache.keys()));
      return all.flat().map((request) => new URL(request.url).pathname);
    });
    assert.ok(names.length > 3 && names.every((name) => name === "/" || name.startsWith("/assets/")), String(names));
  });
});
