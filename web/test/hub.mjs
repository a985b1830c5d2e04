// A hub of models on this machine, as slow as a test wants it, with one model: the tiny one.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { models } from "./server.mjs";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const README = `---
license: mit
base_model: Makers/tiny-base
base_model_relation: quantized
---
# A tiny model

It says *nothing* of sense. <script>ran(1)</script> ![a](https://elsewhere.example/a.png)

| size | loss |
|-|-|
| tiny | high |
`;

/** `pace` is how long each sixteenth of the weights takes, in milliseconds. */
export async function hub({ name = "Makers/tiny-qwen2", pace = 0 } = {}) {
  const folder = join(models(), "tiny");
  const files = new Map([["README.md", Buffer.from(README)], ...readdirSync(folder).map((file) => [file, readFileSync(join(folder, file))])]);
  const listing = {
    _id: "x",
    id: name,
    sha: COMMIT,
    private: false,
    gated: false,
    siblings: [...files].map(([rfilename, bytes]) => ({
      rfilename,
      size: bytes.length,
      blobId: createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex"),
      ...(rfilename.endsWith(".safetensors")
        ? { lfs: { sha256: createHash("sha256").update(bytes).digest("hex"), size: bytes.length, pointerSize: 134 }, blobId: "f".repeat(40) }
        : {}),
    })),
  };
  const own = { pace, name };
  const server = createServer(async (asked, answer) => {
    const { pathname } = new URL(asked.url, "http://hub");
    if (pathname.startsWith(`/api/models/${name}/revision/`)) return void answer.end(JSON.stringify(listing));
    const bytes = files.get(pathname.replace(`/${name}/resolve/${COMMIT}/`, ""));
    if (!bytes) return void answer.writeHead(404).end();
    const from = Number(/bytes=(\d+)-/.exec(asked.headers.range ?? "")?.[1] ?? 0);
    const etag = `"${createHash("sha256").update(bytes).digest("hex")}"`;
    answer.writeHead(from > 0 ? 206 : 200, {
      etag,
      "content-length": bytes.length - from,
      ...(from > 0 ? { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    const isSlow = pathname.endsWith(".safetensors");
    const step = Math.ceil(bytes.length / 16);
    for (let at = from; at < bytes.length && !answer.destroyed; at += step) {
      if (isSlow && own.pace > 0) await new Promise((resolve) => setTimeout(resolve, own.pace));
      answer.write(bytes.subarray(at, at + step));
    }
    answer.end();
    return undefined;
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  own.url = `http://127.0.0.1:${server.address().port}`;
  own.close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return own;
}
