import { readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import { EventReader, faultOf, NoConnection, request } from "../../src/api/http";
import { bytes, energy, money, seconds } from "../../src/i18n/format";

test("events are whole wherever the stream is cut", () => {
  const text = ": keep-alive\n\ndata: {\"a\":1}\n\nevent: x\r\ndata: 1\r\ndata: 2\r\n\r\ndata:[DONE]\n\n";
  const whole = [
    { name: null, data: '{"a":1}' },
    { name: "x", data: "1\n2" },
    { name: null, data: "[DONE]" },
  ];
  for (let size = 1; size <= text.length; size += 1) {
    const reader = new EventReader();
    const events = [];
    for (let at = 0; at < text.length; at += size) events.push(...reader.push(text.slice(at, at + size)));
    expect(events, `in pieces of ${size}`).toEqual(whole);
  }
});

test("faults are read out of envelopes, and out of nothing", () => {
  const body = { error: { message: "m", type: "rate_limit_error", param: null, code: "rate_limit_exceeded" } };
  expect(faultOf(429, body, 7)).toMatchObject({ status: 429, message: "m", type: "rate_limit_error", param: null, retryAfter: 7 });
  for (const odd of [null, "x", {}, { error: [] }]) expect(faultOf(502, odd)).toMatchObject({ status: 502, message: "" });
});

test("quantities are written to be read", () => {
  const rows: [string, string][] = [
    [seconds(0.0004), "0.4 ms"],
    [seconds(0.42), "420 ms"],
    [seconds(9.96), "10 s"],
    [seconds(185), "3 min 05 s"],
    [seconds(7800), "2 h 10 min"],
    [bytes(1_500_000_000), "1.5 GB"],
    [energy(0.05), "50 mJ"],
    [energy(7200), "2 Wh"],
    [money(0.000083, "EUR"), "€0.000083"],
    [money(12.5, "EUR"), "€12.50"],
    [money(0.5, "odd"), "0.5"],
  ];
  for (const [given, expected] of rows) expect(given).toBe(expected);
});

test("an answer that is cut, or is none of the server's, is no connection", async () => {
  for (const body of ['{"data": [', "<html>Sign in to the network</html>"]) {
    vi.stubGlobal("fetch", async () => new Response(body, { status: 200 }));
    await expect(request("GET", "/v1/models")).rejects.toBeInstanceOf(NoConnection);
  }
  vi.unstubAllGlobals();
});

test("a browser that keeps nothing still gets the page from its worker", async () => {
  const source = readFileSync(new URL("../../src/app/sw.js", import.meta.url), "utf8");
  const listeners: Record<string, (event: object) => void> = {};
  const self = { addEventListener: (name: string, run: () => void) => (listeners[name] = run), location: { origin: "http://here" } };
  const refuse = async (): Promise<never> => Promise.reject(new Error("no room"));
  const caches = { open: refuse, match: refuse };
  new Function("self", "caches", "fetch", source)(self, caches, async () => new Response("the page"));
  for (const [path, mode] of [["/", "navigate"], ["/assets/a.js", "cors"]] as const) {
    let answer: Promise<Response> | undefined;
    const waits: Promise<unknown>[] = [];
    listeners["fetch"]?.({
      request: { method: "GET", mode, url: `http://here${path}` },
      respondWith: (given: Promise<Response>) => (answer = given),
      waitUntil: (given: Promise<unknown>) => waits.push(given),
    });
    expect(await (await answer)?.text(), path).toBe("the page");
    await Promise.all(waits);
  }
});
