import { afterEach, describe, expect, test, vi } from "vitest";
import { ApiError, NoConnection } from "../../src/api/http";
import { session, silence } from "../../src/app/state";
import { again, goOn, retry } from "../../src/chat/acts";
import { attach } from "../../src/chat/attach";
import { Conversation } from "../../src/chat/conversation";
import { Database } from "../../src/chat/database";
import { readDocument } from "../../src/chat/document";
import { restore, write } from "../../src/chat/drafts";
import { asJson, asMarkdown, fileName, fromJson } from "../../src/chat/exchange";
import { explain, explainUnsaved } from "../../src/chat/explain";
import { readFiles } from "../../src/chat/files";
import { type ChatStore, Conflict, type ToSave } from "../../src/chat/kept";
import { continued, messages } from "../../src/chat/prompt";
import { canThink, fitting, models } from "../../src/chat/served";
import { changed, fields, readSettings, USUAL } from "../../src/chat/settings";
import { find, rename, startWith, current } from "../../src/chat/state";
import { store } from "../../src/chat/store";
import { type Document, emptyDocument, isFirst, leafUnder, merged, newTurn, pathTo, titleOf, type Turn, versions, withTurns } from "../../src/chat/tree";

const turn = (id: string, role: Turn["role"], parent: string | null, more: Partial<Turn> = {}): Turn => ({
  ...newTurn(role, parent, { content: id, ...more }),
  id,
});

/** A question answered twice; the second answer was gone on with, and its follow-up asked otherwise. */
function tree(): Document {
  const turns = [
    turn("q", "user", null),
    turn("a1", "assistant", "q"),
    turn("a2", "assistant", "q"),
    turn("r1", "user", "a2"),
    turn("b1", "assistant", "r1"),
    turn("r2", "user", "a2"),
    turn("b2", "assistant", "r2"),
  ];
  return { ...withTurns(emptyDocument("m", USUAL), ...turns), leaf: "b2" };
}

const ids = (turns: readonly Turn[]): string[] => turns.map(({ id }) => id);

describe("the tree of turns", () => {
  test("a path leads from the first turn to a leaf", () => {
    const document = tree();
    expect(ids(pathTo(document, "b2"))).toEqual(["q", "a2", "r2", "b2"]);
    expect(ids(pathTo(document, null))).toEqual([]);
    const round = withTurns(document, { ...document.nodes["q"]!, parent: "b2" });
    expect(pathTo(round, "b2")).toHaveLength(4);
  });

  test("versions of a turn, and what followed each", () => {
    const document = tree();
    expect(ids(versions(document, document.nodes["a1"]!))).toEqual(["a1", "a2"]);
    expect(leafUnder(document, "a1")).toBe("a1");
    expect(leafUnder(document, "a2")).toBe("b2");
    expect(leafUnder(document, "r1")).toBe("b1");
  });

  test("two answers that are compared are one version", () => {
    const pair = [
      turn("q", "user", null),
      turn("x", "assistant", "q", { beside: "y" }),
      turn("y", "assistant", "q", { beside: "x" }),
      turn("z", "assistant", "q"),
    ];
    const document = withTurns(emptyDocument("m", USUAL), ...pair);
    expect(ids(versions(document, pair[1]!))).toEqual(["x", "z"]);
    expect(ids(versions(document, pair[2]!))).toEqual(["y", "z"]);
    expect(ids(versions(document, pair[3]!))).toEqual(["x", "z"]);
    expect(pair.map((one) => isFirst(document, one))).toEqual([true, true, false, true]);
  });

  test("of two states the turns of both are kept, each at its longest", () => {
    const ours = withTurns(tree(), turn("b2", "assistant", "r2", { content: "longer" }), turn("c", "user", "b2"));
    const theirs = withTurns(tree(), turn("d", "user", "b1"), turn("a1", "assistant", "q", { content: "a1 and more" }));
    const both = merged(ours, theirs);
    expect(both.nodes["b2"]?.content).toBe("longer");
    expect(both.nodes["a1"]?.content).toBe("a1 and more");
    expect(Object.keys(both.nodes)).toContain("c");
    expect(Object.keys(both.nodes)).toContain("d");
  });

  test("the first question is the title", () => {
    const document = withTurns(emptyDocument(null, USUAL), turn("q", "user", null, { content: " a\n b " }));
    expect(titleOf({ ...document, leaf: "q" })).toBe("a b");
    expect(titleOf(document)).toBe("");
  });
});

describe("prompts", () => {
  test("thoughts are not sent back, files stand before the words", () => {
    const question = turn("q", "user", null, { files: [{ name: "a b.txt", text: "x", tokens: 1 }] });
    const path = [question, turn("a", "assistant", "q", { reasoning: "hm" }), turn("e", "assistant", "q", { content: "" })];
    expect(messages("be kind", path)).toEqual([
      { role: "system", content: "be kind" },
      { role: "user", content: "[file name]: a b.txt\n[file content begin]\nx\n[file content end]\nq" },
      { role: "assistant", content: "a" },
    ]);
  });

  test("an answer that broke off is gone on with, its thought too", () => {
    const broken = turn("a", "assistant", "q", { content: "", reasoning: "hm" });
    expect(continued("", [turn("q", "user", null)], broken).at(-1)).toEqual({ role: "assistant", content: "", reasoning_content: "hm", prefix: true });
  });
});

describe("settings", () => {
  test("what is as usual is not sent", () => {
    expect(fields(USUAL)).toEqual({});
    expect(changed(USUAL)).toBe(0);
    const settings = { ...USUAL, temperature: 0, thinking: { mode: "on", budget: 64 } as const, verify: { samples: 3, checker: "math" } as const };
    expect(fields(settings)).toEqual({ temperature: 0, thinking: { type: "enabled", budget_tokens: 64 }, verify: { samples: 3, checker: "math" } });
    expect(changed(settings)).toBe(3);
    expect(fields({ ...USUAL, thinking: { mode: "off", budget: null } })).toEqual({ thinking: { type: "disabled" } });
  });

  test("what is out of bounds is as usual", () => {
    expect(readSettings({ temperature: 9, top_p: "x", seed: 3, verify: { samples: 1e9, checker: "math" }, thinking: { mode: "odd" } })).toEqual({
      ...USUAL,
      seed: 3,
      verify: { samples: 64, checker: "math" },
    });
    expect(readSettings(null)).toEqual(USUAL);
  });
});

describe("documents from elsewhere", () => {
  test("what is written is read again", () => {
    const document = tree();
    expect(readDocument(JSON.parse(JSON.stringify(document)))).toEqual(document);
    expect(fromJson(asJson([{ title: "t", document }]))).toEqual([{ title: "t", document }]);
  });

  test("what is none is refused, what is odd is left out", () => {
    for (const value of [null, [], {}, { version: 2, nodes: {} }, { version: 1 }]) expect(readDocument(value)).toBeNull();
    for (const text of ["", "{}", "[1]", '{"format":"frugal-chats"}']) expect(fromJson(text)).toBeNull();
    const odd = readDocument({ version: 1, leaf: "nowhere", nodes: { a: { role: "user", content: 5, parent: "gone", beside: "a2" }, b: { role: "root" }, c: 7 } });
    expect(Object.keys(odd?.nodes ?? {})).toEqual(["a"]);
    expect(odd?.nodes["a"]).toMatchObject({ parent: null, content: "", beside: null });
    expect(odd?.leaf).toBe("a");
  });

  test("Markdown keeps code fences whole, and names are fit for files", () => {
    const document = tree();
    const file = turn("q", "user", null, { files: [{ name: "x.md", text: "```\ncode\n```", tokens: null }] });
    const heads = { question: "Q", answer: (model: string) => `A ${model}`, thought: "T", system: "S" };
    expect(asMarkdown("t", withTurns(document, file), heads)).toContain("````\n```\ncode\n```\n````");
    expect(fileName('a/b:"c"\u0000', "md")).toBe("a b c.md");
    expect(fileName("..", "md")).toBe("chat.md");
  });
});

describe("a conversation and its store", () => {
  /** A store with one chat, which others write to as well. */
  class Store implements ChatStore {
    chat: ToSave | null = null;
    refuses: Error | null = null;
    async list() {
      return { data: [], next: null };
    }
    async load() {
      return this.chat && { ...this.chat, updated_at: 0 };
    }
    async save(chat: ToSave) {
      if (this.refuses) throw this.refuses;
      if ((this.chat?.revision ?? 0) !== chat.revision) throw new Conflict();
      this.chat = { ...chat, revision: chat.revision + 1 };
      return this.chat.revision;
    }
    async remove() {
      if (this.refuses) throw this.refuses;
      this.chat = null;
    }
  }
  async function kept() {
    const store = new Store();
    const conversation = new Conversation("id", tree(), store, () => undefined);
    await conversation.save();
    return { store, conversation };
  }

  test("a title that was given in another window stays, unless this one gives another", async () => {
    const { store, conversation } = await kept();
    store.chat = { ...store.chat!, title: "theirs", revision: 2 };
    conversation.put(turn("n", "user", "b2"));
    await conversation.save();
    expect(store.chat).toMatchObject({ title: "theirs", revision: 3 });
    expect(store.chat.document.nodes["n"]).toBeDefined();
    store.chat = { ...store.chat, title: "theirs again", revision: 4 };
    conversation.rename("ours");
    await conversation.save();
    expect(store.chat.title).toBe("ours");
  });

  test("a title that was taken from another window is not ours to insist on", async () => {
    const { store, conversation } = await kept();
    store.chat = { ...store.chat!, title: "theirs", revision: 2 };
    store.refuses = new Conflict();
    await conversation.save();
    expect(conversation.title.value).toBe("theirs");
    store.refuses = null;
    store.chat = { ...store.chat, title: "theirs again", revision: 3 };
    await conversation.save();
    expect(store.chat.title).toBe("theirs again");
  });

  test("closed while it is compared with another window's, it is not kept", async () => {
    const { store, conversation } = await kept();
    store.chat = null;
    store.load = async () => {
      conversation.close();
      return null;
    };
    await conversation.save();
    expect(store.chat).toBeNull();
  });

  test("is not settled until the store has all of it", async () => {
    const { store, conversation } = await kept();
    expect(conversation.isSettled).toBe(true);
    conversation.put(turn("n", "user", "b2"));
    expect(conversation.isSettled).toBe(false);
    store.refuses = new ApiError(413, "", "at most 4 MiB; begin a new one");
    await conversation.save();
    expect(conversation.isSettled).toBe(false);
    expect(explainUnsaved(conversation.unsaved.value)).toMatch(/^At most 4 MiB; begin a new one\. /);
    store.refuses = null;
    await conversation.save();
    expect(conversation.isSettled).toBe(true);
  });

  test("that cannot be removed goes on; that is closed is never kept again", async () => {
    const { store, conversation } = await kept();
    store.refuses = new Error("no");
    await expect(conversation.remove()).rejects.toThrow("no");
    store.refuses = null;
    await conversation.save();
    expect(store.chat?.revision).toBe(2);
    conversation.close();
    await conversation.save();
    expect(store.chat?.revision).toBe(2);
  });
});

test("a model that is not ready is told from one that cannot be loaded", () => {
  const soon = explain(new ApiError(503, "unavailable_error", "no room", null, "unavailable", 5), false);
  expect(soon.about).toMatch(/5/);
  expect(soon.remedies).toContain("again");
  const never = explain(new ApiError(503, "unavailable_error", "it does not fit", null, "model_cannot_be_loaded", null), false);
  expect(never.title).not.toBe(soon.title);
  expect(never.about).toMatch(/^It does not fit\. /);
  expect(never.remedies[0]).toBe("models");
});

test("a model that does not think is not asked to", () => {
  models.value = [{ id: "quick", about: { thinks: false } }, { id: "slow", about: { thinks: true } }, { id: "unknown" }];
  const settings = { ...USUAL, thinking: { mode: "on", budget: 64 } as const };
  for (const [model, thinks] of [["quick", false], ["slow", true], ["unknown", true], ["gone", true]] as const) {
    expect(canThink(model), model).toBe(thinks);
    expect(fitting(model, settings).thinking, model).toEqual(thinks ? settings.thinking : USUAL.thinking);
  }
  models.value = null;
});

test("files are refused by what is too much", async () => {
  const file = (name: string, bytes: number): File => new File(["x".repeat(bytes)], name);
  const given = [file("a", 1_900_000), file("b", 2_100_000), file("c", 1_000_000), new File([new Uint8Array([0])], "d"), file("e", 900_000)];
  const { taken, refused } = await readFiles(given, [{ name: "0", text: "é".repeat(50_000), tokens: null }]);
  expect(taken.map(({ name }) => name)).toEqual(["a", "c"]);
  expect(refused).toEqual([{ name: "b", why: "large" }, { name: "d", why: "binary" }, { name: "e", why: "together" }]);
});

afterEach(() => vi.unstubAllGlobals());

const json = (status: number, body: unknown = {}): Response => new Response(JSON.stringify(body), { status });
const KEYED = { keyed: true, may_manage: false, version: null, default_model: null, history: "server", runs: false, price: null } as const;

/** Answers requests in the server's place; gives those that came. */
function serving(answer: (method: string, path: string) => Response) {
  const asked: { method: string; path: string; body: any }[] = [];
  vi.stubGlobal("fetch", async (path: string, { method, body }: RequestInit) => {
    asked.push({ method: method!, path, body: body === undefined ? null : JSON.parse(body as string) });
    return answer(method!, path);
  });
  return asked;
}

describe("somebody else signs in in another window", () => {
  test("a chat of who was here is not kept for who is here now", async () => {
    session.value = { ...KEYED, name: "ada" };
    startWith("m");
    const conversation = current.value!;
    const asked = serving((method, path) => {
      if (path === "/web/session") return json(200, { ...KEYED, name: "bob" });
      return method === "PUT" ? json(409) : json(404);
    });
    conversation.put(turn("q", "user", null));
    await conversation.save();
    expect(asked.filter(({ method }) => method === "PUT")).toHaveLength(1);
    expect(session.value.name).toBe("bob");
    expect(current.value).toBeNull();
  });

  test("where it cannot be told who is here, nothing is kept", async () => {
    session.value = { ...KEYED, name: "ada" };
    serving((_, path) => (path === "/web/session" ? json(500) : json(409)));
    const chat = { id: "id", title: "", document: tree(), revision: 1 };
    await expect(store().save(chat)).rejects.toBeInstanceOf(ApiError);
    silence.value = null;
    session.value = null;
  });
});

describe("an open conversation", () => {
  test("is taken out with what has come of an answer so far", async () => {
    session.value = { ...KEYED, name: "ada" };
    startWith("m");
    const conversation = current.value!;
    let go: (chunk: unknown) => void = () => undefined;
    const body = new ReadableStream({ start: (stream) => void (go = (chunk) => stream.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(chunk)}\n\n`))) });
    serving((_, path) => (path === "/v1/chat/completions" ? new Response(body) : json(200, { revision: 1, data: [], next: null })));
    conversation.put(turn("q", "user", null), turn("a", "assistant", "q", { content: "" }));
    again(conversation, conversation.document.value.nodes["a"]!);
    go({ id: "x", choices: [{ delta: { content: "so far" } }] });
    const leaf = conversation.document.value.leaf!;
    await vi.waitFor(() => expect(conversation.live.value.get(leaf)?.content.value).toBe("so far"));
    expect((await find(conversation.id))?.document.nodes[leaf]?.content).toBe("so far");
    conversation.close();
  });

  test("that cannot be given another title says so", async () => {
    session.value = { ...KEYED, name: "eve" };
    startWith("m");
    const conversation = current.value!;
    conversation.put(turn("q", "user", null));
    serving(() => json(413));
    await expect(rename(conversation.id, "other")).rejects.toBeInstanceOf(ApiError);
    conversation.close();
  });
});

describe("who is asked again", () => {
  /** A conversation with `m`, whose answer by `own` failed. */
  function failed(fault: unknown, more: Partial<Turn> = {}) {
    models.value = [{ id: "m" }, { id: "x" }];
    const document = withTurns(emptyDocument("m", { ...USUAL, seed: 2 }), turn("q", "user", null), turn("a", "assistant", "q", { model: "x", settings: { ...USUAL, seed: 1 }, ...more }));
    const conversation = new Conversation("id", { ...document, leaf: "a" }, store(), () => undefined);
    conversation.fail("a", fault);
    const asked = serving(() => json(200));
    return { conversation, asked, broken: conversation.document.value.nodes["a"]! };
  }
  const GONE = new ApiError(404, "", "no such model");
  const UNFIT = new ApiError(503, "", "does not fit", null, "model_cannot_be_loaded");
  const ODD = new ApiError(400, "", "too hot", "temperature");

  test.each([
    ["lost", new NoConnection(), "x", 1],
    ["gone", GONE, "m", 2],
    ["not to be loaded", UNFIT, "m", 2],
    ["asked for what it does not take", ODD, "m", 2],
  ] as const)("an answer whose model is %s is gone on with", (_, fault, model, seed) => {
    const { conversation, asked, broken } = failed(fault);
    goOn(conversation, broken);
    expect(asked.at(-1)?.body).toMatchObject({ model, seed });
    expect(conversation.document.value.nodes["a"]).toMatchObject({ model, settings: { seed }, content: "a" });
    conversation.close();
  });

  test.each([
    ["lost", new NoConnection(), "x"],
    ["asked for what it does not take", ODD, "x"],
    ["gone", GONE, "m"],
  ] as const)("an answer for which another model was chosen is tried again: %s", (_, fault, model) => {
    const { conversation, asked, broken } = failed(fault, { content: "", hasOwnModel: true });
    retry(conversation, broken);
    expect(asked.at(-1)?.body).toMatchObject({ model, seed: 2 });
    conversation.close();
  });

  test("a model that was chosen for one answer is noted with it, the conversation's is not", () => {
    const { conversation, broken } = failed(null);
    again(conversation, broken, "x");
    const { leaf, nodes } = conversation.document.value;
    expect(nodes[leaf!]).toMatchObject({ model: "x", hasOwnModel: true });
    again(conversation, broken);
    const { leaf: next, nodes: all } = conversation.document.value;
    expect(all[next!]).toMatchObject({ model: "m", hasOwnModel: false });
    conversation.close();
  });
});

describe("files of a draft", () => {
  const file = (name: string, bytes = 1): File => new File(["x".repeat(bytes)], name);
  const named = (conversation: Conversation): string[] => conversation.draft.value.files.map(({ name }) => name);
  /** A conversation whose kept files come when told to. */
  function begun(keptBytes = 1) {
    let come: () => void = () => undefined;
    const request: { onsuccess?: () => void; result: unknown } = { result: { files: [{ name: "kept", text: "x".repeat(keptBytes), tokens: 1 }] } };
    const get = () => ((come = () => request.onsuccess?.()), request);
    vi.spyOn(Database.prototype, "within").mockResolvedValue({ get } as unknown as IDBObjectStore);
    const conversation = new Conversation("id", tree(), store(), () => undefined);
    restore(conversation);
    return { conversation, come: () => vi.waitFor(() => (come(), expect(request.onsuccess).toBeDefined())) };
  }
  afterEach(() => vi.restoreAllMocks());

  test("that are added before those that were kept have come stand behind them", async () => {
    const { conversation, come } = begun();
    const adding = attach(conversation, [file("added")], () => false);
    await come();
    await adding;
    expect(named(conversation)).toEqual(["kept", "added"]);
  });

  test("count together towards what is too much", async () => {
    const { conversation, come } = begun(2_000_000);
    const adding = attach(conversation, [file("large", 1_500_000)], () => false);
    await come();
    await adding;
    expect(named(conversation)).toEqual(["kept"]);
  });

  test("that were kept do not come back once they were sent", async () => {
    const { conversation, come } = begun();
    write(conversation, { text: "", files: [] });
    await come();
    expect(named(conversation)).toEqual([]);
  });

  test("are not added once nobody writes there", async () => {
    const { conversation, come } = begun();
    let isOver = false;
    const adding = attach(conversation, [file("added")], () => isOver);
    isOver = true;
    await come();
    expect(await adding).toEqual([]);
    expect(named(conversation)).toEqual(["kept"]);
  });
});
