// Keeps the page itself at hand, so that it opens without a connection. Nothing of the server's
// interfaces is ever kept: only the names below, which carry hashes of what they hold, and the page.
const FILES = ["/assets/base-DNGVFrBk.js","/assets/format-4d4ce30p.js","/assets/index-CuNbm5kQ.css","/assets/index-DBvj4-U2.js","/assets/markdown-BPrNS6if.css","/assets/markdown-DW_QDH9-.js","/assets/state-CKUb3pSq.js","/assets/view-C9cIFCwa.css","/assets/view-VTtCasdD.js"];
const CACHE = "frugal-bd3edaac0720";
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

// The page comes from the server where there is one: a new build is seen at once.
async function page(request) {
  try {
    const answer = await fetch(request);
    if (answer.ok) (await caches.open(CACHE)).put(PAGE, answer.clone());
    return answer;
  } catch (error) {
    const kept = await caches.match(PAGE);
    if (kept) return kept;
    throw error;
  }
}

async function asset(request) {
  const kept = await caches.match(request);
  if (kept) return kept;
  const answer = await fetch(request);
  if (answer.ok) (await caches.open(CACHE)).put(request, answer.clone());
  return answer;
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (request.mode === "navigate" && url.pathname === PAGE) event.respondWith(page(request));
  else if (url.pathname.startsWith("/assets/")) event.respondWith(asset(request));
});
