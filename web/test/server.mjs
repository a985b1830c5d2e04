// Servers for tests: `frugal serve` with a home of its own on a free port, and models that are made
// on the spot. `FRUGAL` names the program.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const FRUGAL = process.env.FRUGAL ?? "frugal";
const HERE = dirname(fileURLToPath(import.meta.url));
const SECONDS_TO_START = 60;
const SECONDS_TO_END = 20;

/** What goes when the tests end, however they do. */
const running = new Set();
const folders = [];
process.on("exit", () => {
  for (const one of running) one.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder that goes when the tests end. */
export function temporary(what) {
  const folder = mkdtempSync(join(tmpdir(), `frugal-page-${what}-`));
  folders.push(folder);
  return folder;
}

let made;

/** The folder of the models `tiny` and `wordy`; made once where nobody made it before. */
export function models() {
  made ??= process.env.FRUGAL_TEST_MODELS;
  if (made === undefined) {
    made = temporary("models");
    execFileSync("python3", [join(HERE, "tiny_models.py"), made]);
  }
  return made;
}

const freePort = () =>
  new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

export class Server {
  /** Everything this server was asked to be is kept, so that it can be started again as it was. */
  constructor({ flags = [], serves = ["tiny", "wordy"], home = temporary("home"), environment = {} }) {
    this.flags = flags;
    this.environment = { ...process.env, ...environment };
    this.serves = serves;
    this.home = home;
  }

  static async start(wanted = {}) {
    const server = new Server(wanted);
    for (const [name, ...more] of wanted.keys ?? []) (server.keys ??= {})[name] = server.frugal("keys", "add", name, ...more);
    server.port = await freePort();
    await server.go();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Runs the program with this server's home; gives what it says. */
  frugal(...words) {
    const { environment: env } = this;
    return execFileSync(FRUGAL, [...words, "--home", this.home, "--quiet"], { encoding: "utf8", env }).trim();
  }

  async go() {
    const log = join(this.home, "log");
    const named = this.serves.map((name) => `${name}=${join(models(), name)}`);
    this.process = spawn(
      FRUGAL,
      ["serve", ...named, "--json", "--bind", `127.0.0.1:${this.port}`, "--home", this.home, ...this.flags],
      { stdio: ["ignore", "pipe", openSync(log, "w")], env: this.environment },
    );
    const { process: own } = this;
    running.add(own);
    this.ended = new Promise((resolve) => own.once("exit", resolve));
    void this.ended.then(() => running.delete(own));
    const guard = setTimeout(() => this.process.kill("SIGKILL"), SECONDS_TO_START * 1000);
    const lines = createInterface({ input: this.process.stdout });
    const wanted = new Set(this.serves.length > 0 ? ["listening", "loaded"] : ["listening"]);
    try {
      for await (const line of lines) {
        wanted.delete(JSON.parse(line).event);
        if (wanted.size === 0) break;
      }
    } finally {
      clearTimeout(guard);
    }
    if (wanted.size > 0) throw new Error(`the server did not start: ${readFileSync(log, "utf8")}`);
    // What it tells later must not fill the pipe.
    this.process.stdout.resume();
  }

  /** Ends it as a power cut would. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  async stop() {
    this.process.kill("SIGTERM");
    const guard = setTimeout(() => this.process.kill("SIGKILL"), SECONDS_TO_END * 1000);
    await this.ended;
    clearTimeout(guard);
  }
}
