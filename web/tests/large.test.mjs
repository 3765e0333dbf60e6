// A model of more than 4 GiB in a browser: from an address into one memory of 64 bits, and from a file that
// was chosen into several of 32 bits. The file is sparse, and made by
// `cargo run --release --example make_model -- 8b Q4_1 --sparse FILE`.
//
//   LARGE_MODEL=FILE BROWSER=chromium node --test web/tests/large.test.mjs

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { launch } from "./lib/browser.mjs";
import { serveFile, ISOLATION } from "../dist/serve.js";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const file = process.env.LARGE_MODEL;
assert.ok(file && statSync(file).size > 2 ** 32, "LARGE_MODEL names a model of more than 4 GiB");
const root = fileURLToPath(new URL("..", import.meta.url));
const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const served = pathname === "/large.gguf" ? serveFile(join(file, ".."), `/${file.split("/").at(-1)}`, request, response, ISOLATION) : serveFile(root, pathname, request, response, ISOLATION);
  if (!served) response.writeHead(404, ISOLATION).end();
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const hashes = new Set();
const profile = mkdtempSync(join(tmpdir(), "polychord-browser-"));
const browser = await launch(process.env.BROWSER ?? "chromium", profile);
test.after(async () => {
  await browser.close();
  server.closeAllConnections();
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
});
const url = `http://localhost:${server.address().port}`;
const page = await browser.newPage();
await page.goto(`${url}/tests/page.html`);
await page.waitForFunction("window.ready");

for (const [placement, from] of [["native64", "url"], ["multi32", "file"]]) {
  test(`${placement}, from a ${from}: it generates a token`, { timeout: 600_000 }, async () => {
    if (from === "file") await (await page.$("#file")).uploadFile(file);
    const result = await page.evaluate(async (url, placement, from) => {
      const model = new window.Polychord();
      const began = performance.now();
      try {
        const source = from === "file" ? { kind: "file", file: document.querySelector("#file").files[0] } : { kind: "url", url, keep: false };
        const opened = await model.open(source, { placement, context: 16, batch: 4 });
        const ready = performance.now() - began;
        const run = await model.generate({ ids: [1, 2, 3] }, { maxTokens: 2, hash: true });
        return { ids: run.ids, hash: run.hash, placement: opened.placement.name, reason: opened.placement.reason, memoryBytes: run.memoryBytes, ready, prompt: run.promptMilliseconds };
      } catch (error) {
        return { error: error.message };
      } finally {
        model.close();
      }
    }, `${url}/large.gguf`, placement, from);
    console.log(JSON.stringify(result));
    assert.equal(result.error, undefined);
    assert.equal(result.placement, placement);
    assert.equal(result.ids.length, 2);
    // All placements compute the same.
    hashes.add(result.hash);
    assert.equal(hashes.size, 1);
    assert.ok(result.memoryBytes.flat().reduce((a, b) => a + b) > 2 ** 32);
  });
}
