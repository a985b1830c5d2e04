// Keeps the page itself at hand, so that it opens without a connection. Nothing of the server's
// interfaces is ever kept: only the names below, which carry hashes of what they hold, and the page.
const FILES = ["/assets/base-B2605m9O.js","/assets/index-BdJvxeNW.css","/assets/index-Bg4EgkqL.js","/assets/markdown-BMx9DVbi.css","/assets/markdown-COJksXPs.js","/assets/state-C5eUXV6r.js","/assets/view-Bu48HNk2.css","/assets/view-DDhcmRbj.js"];
const CACHE = "frugal-4ebe9534db54";
const PAGE = "/";

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll([PAGE, ...FILES]))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith("frugal-") && name !== CACHE;
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

// Keeps a copy behind what is answered: a browser that cannot keep anything answers all the same.
function keep(event, name, answer) {
  if (!answer.ok) return answer;
  const copy = answer.clone();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.put(name, copy)).catch(() => undefined));
  return answer;
}

// The page comes from the server where there is one: a new build is seen at once.
async function page(event) {
  try {
    return keep(event, PAGE, await fetch(event.request));
  } catch (error) {
    const kept = await caches.match(PAGE);
    if (kept) return kept;
    throw error;
  }
}

async function asset(event) {
  const { request } = event;
  return (await caches.match(request).catch(() => undefined)) ?? keep(event, request, await fetch(request));
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (request.mode === "navigate" && url.pathname === PAGE) event.respondWith(page(event));
  else if (url.pathname.startsWith("/assets/")) event.respondWith(asset(event));
});
