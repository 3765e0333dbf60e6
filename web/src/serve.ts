// A server for the demo page: files of this package, with the two headers that let workers share memory.

import { createReadStream, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
};

/** What pages need so that workers may share memory. */
export const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
} as const;

/** The folder of this package. */
const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Answers with a file below `root`, whole or a range; false if there is none. */
export function serveFile(root: string, path: string, request: IncomingMessage, response: ServerResponse, headers: Record<string, string>): boolean {
  let decoded: string;
  try {
    decoded = decodeURIComponent(path);
  } catch {
    return false;
  }
  const file = normalize(join(root, decoded.endsWith("/") ? `${decoded}index.html` : decoded));
  // Nothing above the folder, and no file whose name has a zero in it.
  if (!file.startsWith(root.endsWith(sep) ? root : root + sep) || file.includes("\0")) return false;
  const found = statSync(file, { throwIfNoEntry: false });
  if (!found?.isFile()) return false;
  const all = { ...headers, "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Accept-Ranges": "bytes", ETag: `"${found.size}-${found.mtimeMs}"`, "Cache-Control": "no-cache" };
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  if (range && found.size > 0) {
    const start = Number(range[1]);
    const end = Math.min(range[2] ? Number(range[2]) : Infinity, found.size - 1);
    if (start > end) {
      response.writeHead(416, { ...all, "Content-Range": `bytes */${found.size}` }).end();
      return true;
    }
    response.writeHead(206, { ...all, "Content-Length": end - start + 1, "Content-Range": `bytes ${start}-${end}/${found.size}` });
    if (request.method === "HEAD") response.end();
    else createReadStream(file, { start, end }).on("error", () => response.destroy()).pipe(response);
    return true;
  }
  response.writeHead(200, { ...all, "Content-Length": found.size });
  if (request.method === "HEAD") response.end();
  else createReadStream(file).on("error", () => response.destroy()).pipe(response);
  return true;
}

/** Serves the demo page, and a model if there is one, to this machine alone. */
export function serveDemo(port: number, model?: string): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, ISOLATION).end();
    } else if (pathname === "/") {
      response.writeHead(302, { ...ISOLATION, Location: "/demo/" }).end();
    } else if (model !== undefined && pathname === "/model.gguf") {
      if (!serveFile(join(model, ".."), `/${model.slice(model.lastIndexOf(sep) + 1)}`, request, response, ISOLATION)) response.writeHead(404, ISOLATION).end();
    } else if (!/^\/((demo|dist)\/|sw\.js$)/.test(pathname) || !serveFile(ROOT, pathname, request, response, ISOLATION)) {
      response.writeHead(404, { ...ISOLATION, "Content-Type": "text/plain" }).end("not found\n");
    }
  });
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      resolve({ server, url: `http://localhost:${typeof address === "object" ? address?.port : port}/demo/` });
    });
  });
}
