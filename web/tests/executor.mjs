// The engine of Node or of a browser for the conformance suite: commands come on stdin, answers go to stdout.
//
//   POLYCHORD_WEB_EXECUTOR="node web/tests/executor.mjs [chromium|firefox]" polychord-web-conformance

import { mkdtempSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { capabilities } from "../dist/index.js";
import { features, parse, serve } from "./lib/executor.mjs";

const browser = process.argv[2];

/** Keeps what the engine can do beside what the suite records. */
function record(engine, can) {
  const folder = process.env.POLYCHORD_CONFORMANCE_RECORD;
  if (folder) writeFileSync(join(folder, `${engine}.capabilities.json`), can);
}

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
  return capabilities().then((can) => {
    record("node", JSON.stringify(can));
    serve(exchange, { engine: "node", version: process.versions.node, ...features(can) });
  });
}

/** A page whose worker asks for commands through a socket, and waits for them. */
async function inBrowser(name) {
  const { launch } = await import("./lib/browser.mjs");
  const { WebSocketServer } = await import("ws");
  const { ISOLATION, serveFile } = await import("../dist/serve.js");
  const root = fileURLToPath(new URL("..", import.meta.url));
  const server = createServer((request, response) => {
    if (request.url === "/") {
      response.writeHead(200, { ...ISOLATION, "Content-Type": "text/html" }).end("<script>new Worker('/tests/executor-worker.js', { type: 'module' }).onerror = (e) => console.error(e.message)</script>");
    } else if (!serveFile(root, new URL(request.url, "http://localhost").pathname, request, response, ISOLATION)) {
      response.writeHead(404, ISOLATION).end();
    }
  });
  const sockets = new WebSocketServer({ server, path: "/exchange", maxPayload: 2 ** 30, perMessageDeflate: false });
  const end = new Promise((resolve) => {
    sockets.on("connection", (socket) =>
      socket.on("message", (bytes, isBinary) => {
        if (!isBinary) return record(name, bytes);
        writeAll(bytes);
        const next = receive();
        if (next) return socket.send(next);
        socket.close();
        resolve();
      }));
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
  sockets.close();
  server.closeAllConnections();
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}

await (browser ? inBrowser(browser) : here());
