// The engine of Node or of a browser for the conformance suite: commands come on stdin, answers go to stdout.
//
//   POLYCHORD_WEB_EXECUTOR="node web/tests/executor.mjs [chromium|firefox]" polychord-web-conformance

import { readSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { capabilities } from "../dist/index.js";
import { parse, serve } from "./lib/executor.mjs";

const browser = process.argv[2];

/** The features that the suite asks for. */
export const features = (can) => ({ multiMemory: can.multiMemory.ok, memory64: can.memory64.ok, relaxedSimd: can.relaxedSimd.ok });

function readExactly(length) {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    let got;
    try {
      got = readSync(0, bytes, at, length - at, null);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
      continue;
    }
    // The suite is over.
    if (got === 0) return undefined;
    at += got;
  }
  return bytes;
}

function writeAll(bytes) {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

/** The next command, without its length; none at the end. */
function receive() {
  const length = readExactly(4);
  return length && readExactly(length.readUInt32LE(0));
}

function here() {
  const exchange = (bytes) => {
    writeAll(bytes);
    const next = receive();
    return next && parse(next);
  };
  return capabilities().then((can) => serve(exchange, { engine: "node", version: process.versions.node, ...features(can) }));
}

/** A page whose worker asks for commands by synchronous requests. */
async function inBrowser(name) {
  const { launch } = await import("./lib/browser.mjs");
  const root = fileURLToPath(new URL("..", import.meta.url));
  let ended;
  const end = new Promise((resolve) => (ended = resolve));
  const server = createServer(async (request, response) => {
    if (request.url === "/exchange") {
      const parts = [];
      for await (const part of request) parts.push(part);
      writeAll(Buffer.concat(parts));
      const next = receive();
      response.writeHead(next ? 200 : 204, { "Content-Type": "application/octet-stream" }).end(next);
      if (!next) ended();
    } else if (request.url === "/") {
      response.writeHead(200, { "Content-Type": "text/html" }).end("<script>new Worker('/tests/executor-worker.js', { type: 'module' }).onerror = (e) => console.error(e.message)</script>");
    } else {
      const file = join(root, new URL(request.url, "http://localhost").pathname);
      const type = file.endsWith(".wasm") ? "application/wasm" : "text/javascript";
      await readFile(file).then((bytes) => response.writeHead(200, { "Content-Type": type }).end(bytes), () => response.writeHead(404).end());
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const profile = mkdtempSync(join(tmpdir(), "polychord-browser-"));
  const browser = await launch(name, profile);
  const page = await browser.newPage();
  page.on("console", (message) => console.error(message.text()));
  page.on("pageerror", (error) => console.error(error.message));
  await page.goto(`http://localhost:${server.address().port}/`);
  await end;
  await browser.close();
  server.closeAllConnections();
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}

await (browser ? inBrowser(browser) : here());
