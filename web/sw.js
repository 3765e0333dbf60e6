// Keeps the page, and all that it loads before a model, for visits without a network. Models are in the
// storage of the page, not here. Pages get the two headers that let workers share memory, also from
// servers that do not send them.

importScripts("dist/files.js");
/* global POLYCHORD_FILES */
const { version, files } = POLYCHORD_FILES;
const NAME = `polychord ${version}`;

self.addEventListener("install", (event) => {
  const keep = async () => {
    const cache = await caches.open(NAME);
    await cache.addAll(files.map((file) => new Request(file, { cache: "no-cache" })));
    await self.skipWaiting();
  };
  event.waitUntil(keep());
});

self.addEventListener("activate", (event) => {
  const clean = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith("polychord ") && name !== NAME).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(clean());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const kept = new URL(url.pathname.endsWith("/") ? `${url.pathname}index.html` : url.pathname, url.origin).href;
  const ours = files.some((file) => new URL(file, self.registration.scope).href === kept);
  if (request.method !== "GET" || request.headers.has("range") || !ours) return;
  const answer = async () => isolated((await (await caches.open(NAME)).match(kept)) ?? (await fetch(request)));
  event.respondWith(answer());
});

function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
