// Stands between a page and a server and says what no honest model or server would. Where nothing was
// prepared, everything passes as it is.

import { createServer, request } from "node:http";

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Cuts a text into about so many pieces, never within a character. */
function* cut(text, pieces) {
  const size = Math.max(1, Math.ceil(text.length / pieces));
  for (let at = 0; at < text.length; ) {
    let end = Math.min(text.length, at + size);
    const code = text.charCodeAt(end - 1);
    if (code >= 0xd800 && code < 0xdc00) end += 1;
    yield text.slice(at, end);
    at = end;
  }
}

export async function between(server) {
  const own = {
    /** What the next answers are: `{ thought, answer, pieces, pace, usage, breaks }`. */
    prepared: null,
    /** Whole answers by path: a value for JSON, a list of events under `stream`. */
    given: new Map(),
    asked: [],
  };
  const listener = createServer(async (asked, answer) => {
    const { pathname } = new URL(asked.url, server.url);
    if (own.given.has(pathname)) return give(own.given.get(pathname), answer);
    if (pathname === "/v1/chat/completions" && own.prepared !== null) return stream(own, asked, answer);
    const passed = request(
      server.url + asked.url,
      { method: asked.method, headers: asked.headers },
      (got) => {
        answer.writeHead(got.statusCode, got.headers);
        got.pipe(answer);
      },
    );
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    asked.pipe(passed);
    return undefined;
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  own.url = `http://127.0.0.1:${listener.address().port}`;
  own.close = () => {
    listener.closeAllConnections();
    return new Promise((resolve) => listener.close(resolve));
  };
  return own;
}

function give(value, answer) {
  if (value?.stream) {
    answer.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    for (const event of value.stream) answer.write(`data: ${JSON.stringify(event)}\n\n`);
    if (!value.stays) answer.end();
    return;
  }
  answer.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
  answer.end(JSON.stringify(value));
}

async function stream(own, asked, answer) {
  let body = "";
  for await (const part of asked) body += part;
  own.asked.push(JSON.parse(body));
  const { thought = "", answer: text = "", pieces = 12, pace = 4, usage = true, breaks = false, finish = "stop" } = own.prepared;
  answer.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  const chunk = (delta, more = {}) =>
    answer.write(`data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", model: "tiny", choices: [{ index: 0, delta, finish_reason: null, ...more }] })}\n\n`);
  for (const [field, whole] of [["reasoning_content", thought], ["content", text]])
    for (const piece of cut(whole, pieces)) {
      if (answer.destroyed) return;
      chunk({ [field]: piece });
      await pause(pace);
    }
  if (breaks) return void answer.destroy();
  chunk({}, { finish_reason: finish });
  if (usage)
    answer.write(`data: ${JSON.stringify({ id: "chatcmpl-1", choices: [], usage: { prompt_tokens: 9, completion_tokens: 40, total_tokens: 49, completion_tokens_details: { reasoning_tokens: 20 } } })}\n\n`);
  answer.end("data: [DONE]\n\n");
}
