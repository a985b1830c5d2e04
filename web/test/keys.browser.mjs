// A server with keys: signing in, whose chats are whose, signing out.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { beside, calm, close, launch, open, PHONE, until } from "./browser.mjs";
import { Chat } from "./chat.mjs";
import { Server } from "./server.mjs";
import { holding, LANGUAGES, words } from "./words.mjs";

let browser;
let server;
before(async () => {
  const started = Server.start({ flags: ["--keys-required"], keys: [["ada", "--may-manage"], ["bob"]] });
  [browser, server] = await Promise.all([launch(), started]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

// The server says who is asked for a key by refusing; browsers write that to the console.
const noise = /status of 40[1349]/;

async function signIn(page, key, say) {
  await page.getByRole("textbox", { name: say.shell.key }).or(page.getByLabel(say.shell.key, { exact: true })).first().fill(key);
  await page.getByRole("button", { name: say.shell.sign_in, exact: true }).click();
}

async function signedIn(name, how = {}) {
  const say = await words(how.language ?? "en");
  const page = await open(browser, server, { noise, ...how });
  await page.getByRole("heading", { name: say.shell.sign_in }).waitFor();
  await signIn(page, server.keys[name], say);
  return { page, chat: await Chat.of(page, how.language), say };
}

/** The chats with a word in them that the server keeps for who is signed in. */
const kept = (page, word) => page.evaluate(async (word) => (await (await fetch(`/web/chats?q=${word}`)).json()).data, word);

for (const language of LANGUAGES)
  test(`asks for a key, and says when it is wrong: ${language}`, async () => {
    const say = await words(language);
    const page = await open(browser, server, { noise, language, size: PHONE });
    await page.getByRole("heading", { name: say.shell.sign_in }).waitFor();
    await signIn(page, "sk-nobody-has-this", say);
    // Read out: the focus was in the field all the while.
    await page.getByRole("alert").filter({ hasText: say.shell.key_wrong }).waitFor();
    await signIn(page, server.keys.bob, say);
    await Chat.of(page, language);
    // The key itself is nowhere a script could find it.
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert(!kept.includes(server.keys.bob));
    await close(page);
  });

test("chats are kept by the server for their key, and no other key sees them", async () => {
  const ada = await signedIn("ada");
  await ada.chat.ask("a secret of Ada");
  await ada.chat.kept("a secret of Ada");
  const id = /#\/chat\/([\w-]+)/.exec(ada.page.url())[1];
  await until(ada.page, async (id) => (await fetch(`/web/chats/${id}`)).ok, id);
  await ada.page.reload();
  await ada.chat.entry("a secret of Ada").waitFor();
  await ada.chat.answers.first().waitFor();
  assert.equal(await ada.chat.thought().count(), 1);

  const bob = await signedIn("bob");
  await bob.page.goto(`${server.url}/#/chat/${id}`);
  await bob.page.getByText(bob.chat.say.gone).waitFor();
  assert.equal(await bob.chat.entry("a secret of Ada").count(), 0);
  assert.deepEqual(await kept(bob.page, "secret"), []);
  // What is not there for him is also gone for him: neither answer tells that somebody has it.
  const ask = (id) => bob.page.evaluate(async (id) => [(await fetch(`/web/chats/${id}`)).status, (await fetch(`/web/chats/${id}`, { method: "DELETE" })).status], id);
  assert.deepEqual(await ask(id), await ask("00000000-0000-4000-8000-000000000000"));
  assert.equal((await ask(id))[0], 404);
  await close(bob.page);

  // The same key elsewhere finds them.
  const again = await signedIn("ada");
  await again.chat.entry("a secret of Ada").click();
  await again.chat.answers.first().waitFor();
  await again.chat.choose(again.chat.say.deeds_of("a secret of Ada"), again.chat.say.rename);
  const dialog = again.page.getByRole("dialog", { name: again.chat.say.rename });
  await dialog.getByRole("textbox", { name: again.chat.say.title }).fill("No secret");
  await dialog.getByRole("button", { name: again.chat.say.save }).click();
  await again.chat.entry("No secret").waitFor();
  const field = again.chat.history.getByRole("searchbox", { name: again.chat.say.search });
  await field.fill("secret of");
  await again.chat.entry("No secret").waitFor();
  await field.fill("");

  // What changed elsewhere does not overwrite what is written here: both are kept.
  await ada.chat.ask("one more");
  await again.chat.ask("and one from here");
  await again.page.waitForTimeout(1000);
  const count = await again.page.evaluate(async (id) => Object.keys((await (await fetch(`/web/chats/${id}`)).json()).document.nodes).length, id);
  assert.equal(count, 6);
  await again.chat.choose(again.chat.say.deeds_of("No secret"), again.chat.say.remove);
  await again.page.getByRole("dialog", { name: again.chat.say.remove_title }).getByRole("button", { name: again.chat.say.remove }).click();
  await again.chat.entry("No secret").waitFor({ state: "detached" });
  await close(ada.page);
  await close(again.page);
});

test("signs out, and is out in every window", async () => {
  const { page, chat, say } = await signedIn("bob");
  await chat.ask("hello");
  const other = await beside(page);
  const there = await Chat.of(other);
  await there.questions.filter({ hasText: "hello" }).waitFor();
  await chat.choose(say.shell.preferences, holding(say.shell.sign_out));
  for (const one of [page, other]) {
    await one.getByRole("heading", { name: say.shell.sign_in }).waitFor();
    assert.equal(await one.evaluate(async () => (await fetch("/web/chats")).status), 401);
    assert.equal(await one.getByText("hello").count(), 0);
  }
  await calm(other);
  await close(page);
});

test("an answer that comes in one window is not kept for who signs in in another", async () => {
  const { page, chat, say } = await signedIn("ada");
  await chat.pick("wordy");
  await chat.begin("told to Ada alone");
  await chat.kept("told to Ada alone");
  const other = await beside(page);
  const there = await Chat.of(other);
  await there.choose(say.shell.preferences, holding(say.shell.sign_out));
  await other.getByRole("heading", { name: say.shell.sign_in }).waitFor();
  await signIn(other, server.keys.bob, say);
  await there.field.waitFor();
  // The first window is Bob's as well, and Ada's chat is not there for him.
  await page.getByText(chat.say.gone, { exact: true }).waitFor();
  // Longer than it takes until what comes of an answer is kept.
  await page.waitForTimeout(5000);
  assert.deepEqual(await kept(page, "told"), []);
  for (const one of [chat, there]) assert.equal(await one.entry("told to Ada alone").count(), 0);
  await calm(other);
  await close(page);
});

test("who signs in next finds nothing of who was here, and keeps nothing of theirs", async () => {
  const { page, chat, say } = await signedIn("ada");
  await chat.pick("wordy");
  await chat.begin("a story for Ada alone");
  await chat.stop.waitFor();
  await chat.kept("a story for Ada alone");
  await chat.field.fill("what Ada was writing");
  await page.locator("input[type=file]:not([accept])").setInputFiles({ name: "ada.txt", mimeType: "text/plain", buffer: Buffer.from("Ada's") });
  await page.getByRole("list", { name: chat.say.files }).getByRole("button").first().waitFor();
  // The session ends by itself: what was written waits for the same key, and only for that.
  await page.context().clearCookies();
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await page.getByRole("heading", { name: say.shell.sign_in }).waitFor();
  await signIn(page, server.keys.bob, say);
  await page.getByText(chat.say.gone, { exact: true }).waitFor();
  await chat.anew();
  await page.getByRole("heading", { name: chat.say.welcome }).waitFor();
  assert.equal(await chat.field.inputValue(), "");
  // Longer than it takes until what comes of an answer is kept.
  await page.waitForTimeout(5000);
  assert.equal(await chat.entry("a story for Ada alone").count(), 0);
  assert.deepEqual(await kept(page, "story"), []);
  assert.equal(await page.getByRole("list", { name: chat.say.files }).count(), 0);
  await chat.choose(say.shell.preferences, holding(say.shell.sign_out));
  await page.getByRole("heading", { name: say.shell.sign_in }).waitFor();
  assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage })).then((kept) => /writing|ada/.test(kept)), false);
  assert.deepEqual(await page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name).filter((name) => name.includes("draft"))), []);
  await close(page);
});

test("a chat that the server does not take is kept by the page, and says why", async () => {
  const { page, chat } = await signedIn("bob", { noise: /status of (?:40[1349]|413|500)/ });
  await chat.ask("the first");
  await chat.kept("the first");
  const refusal = (status, message) => (route) =>
    ["PUT", "DELETE"].includes(route.request().method())
      ? route.fulfill({ status, contentType: "application/json", body: JSON.stringify({ error: { message, type: "x" } }) })
      : route.fallback();
  await page.route("**/web/chats/*", refusal(413, "expected a conversation of at most 4 MiB"));
  await chat.ask("the second");
  await page.getByText(/Expected a conversation of at most 4 MiB/).waitFor();
  await chat.anew();
  await chat.entry("the first").click();
  await chat.questions.filter({ hasText: "the second" }).waitFor();
  await chat.choose(chat.say.deeds_of("the first"), chat.say.remove);
  await page.getByRole("dialog", { name: chat.say.remove_title }).getByRole("button", { name: chat.say.remove }).click();
  await page.getByText(chat.say.remove_failed).waitFor();
  await chat.questions.filter({ hasText: "the second" }).waitFor();
  // What was refused meanwhile is tried again by hand alone.
  await page.waitForTimeout(1000);
  await page.unroute("**/web/chats/*");
  await page.getByRole("note").getByRole("button", { name: chat.say.ended.again }).click();
  await page.getByText(chat.say.unsaved).waitFor({ state: "detached" });
  // One that cannot be fetched can be fetched again.
  await page.route("**/web/chats/*", (route) => route.fulfill({ status: 500, contentType: "application/json", body: "{}" }));
  await page.reload();
  await page.getByText(chat.say.not_fetched, { exact: true }).waitFor();
  await page.unroute("**/web/chats/*");
  await page.getByRole("button", { name: chat.say.ended.again }).click();
  await chat.questions.filter({ hasText: "the second" }).waitFor();
  await close(page);
});

test("a key that is revoked ends its session, in words", async () => {
  const own = await Server.start({ flags: ["--keys-required"], keys: [["eve"]] });
  const page = await open(browser, own, { noise });
  const say = await words("en");
  await page.getByRole("heading", { name: say.shell.sign_in }).waitFor();
  await signIn(page, own.keys.eve, say);
  const chat = await Chat.of(page);
  await chat.ask("hello");
  // The last of it is kept first: what is refused then is the question.
  await until(page, async () => {
    const get = async (path) => (await fetch(`/web/chats${path}`)).json();
    const [kept] = (await get("")).data;
    return kept !== undefined && JSON.stringify(await get(`/${kept.id}`)).includes('"finish":"');
  });
  own.frugal("keys", "revoke", "eve");
  await until(page, async () => (await fetch("/web/chats")).status === 401);
  await chat.begin("still there?");
  await page.getByText(chat.say.faults.key, { exact: true }).waitFor();
  await page.getByRole("button", { name: say.chat.faults.sign_in, exact: true }).click();
  await page.getByRole("heading", { name: say.shell.sign_in }).waitFor();
  await close(page);
  await own.stop();
});

test("another site cannot act for who is signed in", async () => {
  const { page } = await signedIn("ada");
  const cookies = await page.context().cookies();
  const session = cookies.find(({ name }) => name === "frugal_session");
  assert.equal(session.httpOnly, true);
  assert.equal(session.sameSite, "Strict");
  const cookie = `${session.name}=${session.value}`;
  const foreign = { cookie, origin: "https://elsewhere.example", "sec-fetch-site": "cross-site", "content-type": "application/json" };
  const ask = (path, method, headers, body) => fetch(server.url + path, { method, headers, body }).then(({ status }) => status);
  const body = JSON.stringify({ model: "tiny", messages: [{ role: "user", content: "hi" }], max_tokens: 2 });
  assert([401, 403].includes(await ask("/v1/chat/completions", "POST", foreign, body)));
  assert([401, 403].includes(await ask("/web/models/tiny/unload", "POST", foreign, "{}")));
  assert([401, 403].includes(await ask("/web/session", "DELETE", foreign)));
  assert([401, 403].includes(await ask("/web/chats", "GET", foreign)));
  const own = { ...foreign, origin: server.url, "sec-fetch-site": "same-origin" };
  assert.equal(await ask("/web/chats", "GET", own), 200);
  await close(page);
});
