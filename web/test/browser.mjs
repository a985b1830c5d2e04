// A browser for tests, and pages that notice what must never happen: a request to another host, a script
// that was not ours, a fault that nobody caught.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
const LOCALES = { en: "en-GB", de: "de-DE", zh: "zh-CN" };
const SECONDS = 30;
const SEED = 11;

export function launch(more = {}) {
  const executablePath = process.env.CHROMIUM ?? PLACES.find((path) => existsSync(path));
  assert(executablePath, "expected a Chromium, or its path in CHROMIUM");
  // Chromium's own sandbox refuses to work for root, which is who works in most containers.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args: [...args, "--disable-dev-shm-usage"], ...more });
}

/** Runs in the page before anything of the page does. */
function listen() {
  window.seen = { violations: [], ran: [] };
  // What a hostile text would call if it could.
  window.ran = (what) => window.seen.ran.push(String(what));
  for (const name of ["alert", "confirm", "prompt", "open", "print"]) window[name] = () => window.seen.ran.push(name);
  document.addEventListener("securitypolicyviolation", (event) => {
    window.seen.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample ?? ""} ${event.sourceFile ?? ""}:${event.lineNumber}`);
  });
}

/** Opens a page at a server. `noise` are faults on the console that the test itself brings about. */
export async function open(browser, server, { size = WIDE, scheme = "light", language = "en", worker = false, noise, ...more } = {}) {
  const context = await browser.newContext({
    viewport: size,
    colorScheme: scheme,
    locale: LOCALES[language],
    hasTouch: size === PHONE,
    isMobile: size === PHONE,
    serviceWorkers: worker ? "allow" : "block",
    permissions: ["clipboard-read", "clipboard-write"],
    reducedMotion: "reduce",
    ...more,
  });
  context.setDefaultTimeout(SECONDS * 1000);
  await context.addInitScript(listen);
  const page = Object.assign(await context.newPage(), { faults: [], noise, mayOpen: false });
  context.on("page", (other) => {
    if (!page.mayOpen) page.faults.push(`window: ${other.url()}`);
  });
  context.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== "data:" && protocol !== "blob:" && origin !== server.url) page.faults.push(`request: ${request.url()}`);
  });
  await watch(page);
  await page.goto(`${server.url}/${more.hash ?? ""}`);
  return page;
}

/** Opens another window beside a page: cookies and what the browser keeps are the same. */
export async function beside(page) {
  const { faults, noise } = page;
  page.mayOpen = true;
  const other = Object.assign(await page.context().newPage(), { faults, noise });
  page.mayOpen = false;
  await watch(other);
  await other.goto(page.url());
  return other;
}

/** Notes what goes wrong in a page. */
async function watch(page) {
  const { faults, noise } = page;
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !noise?.test(message.text())) faults.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  // What the model says is left to chance, but the same chance every time.
  await page.route("**/v1/chat/completions", (route) => {
    const asked = route.request().postDataJSON();
    return route.continue({ postData: JSON.stringify({ seed: SEED, ...asked }) });
  });
}

/** Waits until the page says yes to what is to be asked and answered later. */
export async function until(page, ask, argument) {
  const end = Date.now() + SECONDS * 1000;
  while (!(await page.evaluate(ask, argument))) {
    assert(Date.now() < end, `still not so: ${ask}`);
    await page.waitForTimeout(100);
  }
}

/** Nothing reaches beyond the sides of the window, but what scrolls there by itself. */
export async function fits(page) {
  const beyond = await page.evaluate(() => {
    const over = (own) => own.scrollWidth > own.clientWidth;
    const all = [document.documentElement, ...document.querySelectorAll("main > *")];
    return all.filter(over).map((own) => `${own.tagName} ${own.className}: ${own.scrollWidth} in ${own.clientWidth}`);
  });
  assert.deepEqual(beyond, []);
}

/** Nothing happened that must not; then the page goes. */
export async function close(page) {
  await calm(page);
  await page.context().close();
}

export async function calm(page) {
  const seen = await page.evaluate(() => window.seen);
  assert.deepEqual(page.faults, []);
  assert.deepEqual(seen, { violations: [], ran: [] });
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Looks for what keeps people out; serious and critical faults fail. */
export async function accessible(page, where) {
  // Added by the test's own world, which the page's policy does not bind.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.enable");
  const run = async (expression) => {
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    assert(!exceptionDetails, `${exceptionDetails?.text} ${exceptionDetails?.exception?.description}`);
    return result.value;
  };
  if (!(await run("Boolean(window.axe)"))) await run(`${AXE}; 0`);
  // Of what passes it is enough to know that it was looked at: telling all of it takes most of the time.
  const found = await run(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations, passes }) =>
    (passes.length < 10 ? [{ id: "axe saw too little", impact: "serious", nodes: [] }] : violations).filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, impact, nodes }) => impact + " " + id + ": " + nodes.map(({ target, html, failureSummary }) =>
        target.join(" ") + " " + html.slice(0, 160) + " " + failureSummary.split("\\n").slice(1).join(" ")).slice(0, 4).join(" | ")))`);
  await session.detach();
  assert.deepEqual(found, [], where);
}
