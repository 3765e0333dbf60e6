// A server for tests: the package with the headers or without, and a model in all the ways in which
// servers go wrong.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { ISOLATION, serveFile } from "../../dist/serve.js";
import { MODEL } from "./model.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Starts it; `requests` counts those for models, by the way they go wrong. `serveParts` names the folder
 * whose files are below /model/parts. `post` answers what pages tell.
 */
export async function start({ isolated = true, post } = {}) {
  const requests = {};
  const served = {};
  let parts;
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const headers = isolated ? ISOLATION : {};
    if (request.method === "POST" && post) {
      let text = "";
      for await (const bytes of request) text += bytes;
      return response.writeHead(200, headers).end(JSON.stringify((await post(JSON.parse(text))) ?? null));
    }
    const way = /^\/model\/(\w+)\//.exec(pathname)?.[1];
    if (way === "parts") {
      requests.parts = (requests.parts ?? 0) + 1;
      if (!parts || !serveFile(parts, pathname.slice("/model/parts".length), request, response, headers)) response.writeHead(404, headers).end();
      return;
    }
    if (way) {
      requests[way] = (requests[way] ?? 0) + 1;
      return WAYS[way](request, response, { ...headers, count: requests[way], add: (bytes) => (served[way] = (served[way] ?? 0) + bytes) });
    }
    if (!serveFile(ROOT, pathname, request, response, headers)) response.writeHead(404, headers).end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://localhost:${server.address().port}`;
  return { url, requests, served, serveParts: (folder) => (parts = folder), close: () => (server.closeAllConnections(), server.close()) };
}

function range(request) {
  const size = statSync(MODEL).size;
  const found = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  if (!found) return { start: 0, end: size - 1, size, whole: true };
  return { start: Number(found[1]), end: Math.min(Number(found[2]), size - 1), size, whole: false };
}

function send(request, response, { add, count: _, ...headers }, { cut, claim, tag = '"one"' } = {}) {
  const { start, end, size, whole } = range(request);
  const to = cut === undefined ? end : Math.min(end, start + cut - 1);
  response.writeHead(whole ? 200 : 206, {
    "Cache-Control": "no-store",
    ETag: tag,
    ...headers,
    "Content-Length": end - start + 1,
    ...(whole ? {} : { "Content-Range": claim ?? `bytes ${start}-${end}/${size}` }),
  });
  const stream = createReadStream(MODEL, { start, end: to });
  stream.on("data", (bytes) => add(bytes.length));
  stream.pipe(response, { end: to === end });
  // What was promised does not come.
  if (to < end) stream.on("end", () => setTimeout(() => response.destroy(), 20));
}

const WAYS = {
  good: (request, response, headers) => send(request, response, headers),
  kept: (request, response, headers) => send(request, response, headers),
  // Slow enough for something to be done in the middle.
  slow: (request, response, headers) => setTimeout(send, 700, request, response, headers),
  // Each connection breaks after 3 MB.
  breaks: (request, response, headers) => send(request, response, headers, { cut: 3_000_000 }),
  // After 30 MB in all nothing comes any more, until it is `mended`.
  ends: (request, response, headers) => {
    if (headers.count > 12 && !WAYS.mended) response.destroy();
    else send(request, response, headers);
  },
  ignores: (request, response, headers) => {
    request.headers.range = "";
    send(request, response, headers, { cut: 100_000 });
  },
  wrong: (request, response, headers) => {
    const { size } = range(request);
    send(request, response, headers, headers.count > 1 ? { claim: `bytes 5-9/${size}` } : {});
  },
  changes: (request, response, headers) => {
    const { start, end, size } = range(request);
    send(request, response, headers, headers.count > 1 ? { claim: `bytes ${start}-${end}/${size + 32}` } : {});
  },
  // The first visitor gets it, others do not: a further rank that fails.
  first: (request, response, headers) => {
    if (request.headers.range === "bytes=0-0") WAYS.visitors = (WAYS.visitors ?? 0) + 1;
    if (WAYS.visitors > 1) response.writeHead(404, { "Cross-Origin-Resource-Policy": "same-origin" }).end();
    else send(request, response, headers);
  },
  missing: (_, response, headers) => response.writeHead(404, { "Cross-Origin-Resource-Policy": headers["Cross-Origin-Resource-Policy"] ?? "" }).end(),
  // Another host that lets pages read, and does not say how long the file is.
  hidden: (request, response, headers) => send(request, response, { ...headers, "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" }),
  allows: (request, response, headers) =>
    send(request, response, { ...headers, "Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Content-Range, ETag", "Cross-Origin-Resource-Policy": "cross-origin" }),
};

/** Lets the server that had ended go on. */
export function mend() {
  WAYS.mended = true;
}
