// The default model in real browsers, headless: its hash in all placements, alone and in two ranks;
// loading from files, addresses and storage, and all that goes wrong with these.
//
//   BROWSER=chromium|firefox node --test web/tests/browsers.test.mjs

import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { launch } from "./lib/browser.mjs";
import { HASH, MODEL, PROMPT, TOKENS } from "./lib/model.mjs";
import { mend, start } from "./lib/server.mjs";
import { partName, split } from "./lib/split.mjs";

const name = process.env.BROWSER ?? "chromium";
const profile = mkdtempSync(join(tmpdir(), "polychord-browser-"));
const [here, other, plain] = [await start(), await start({ isolated: false }), await start({ isolated: false })];
// A name of this machine that is not trusted as localhost is.
const browser = await launch(name, profile, name === "chromium" ? ["--host-resolver-rules=MAP models.test 127.0.0.1"] : []);
test.after(async () => {
  await browser.close();
  [here, other, plain].forEach((server) => server.close());
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
});

async function open(server = here) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(`page: ${error.message}`));
  await page.goto(`${server.url}/tests/page.html`);
  await page.waitForFunction("window.ready");
  return page;
}

const run = (page, source, options = {}, maxTokens = TOKENS) =>
  page.evaluate((...args) => window.open_(...args), source, options, PROMPT, maxTokens);
const kept = { kind: "url", url: `${here.url}/model/kept/model.gguf`, keep: true };
const from = (way, server = here, keep = false) => ({ kind: "url", url: `${server.url}/model/${way}/model.gguf`, keep });

const page = await open();
const { can, choice } = await page.evaluate(async () => {
  const model = new window.Polychord();
  const all = await model.capabilities();
  model.close();
  return all;
});
console.log(JSON.stringify({ name, can, choice }));

test("what the browser can do", () => {
  assert.ok(can.simd.ok && can.threads.ok && can.opfs.ok, JSON.stringify(can));
  assert.ok(can.memory32Bytes >= 2 ** 31);
  assert.ok(choice.reasons.length > 3);
});

test("an address is loaded by ranges, straight into the guest", async () => {
  const result = await run(page, from("good"));
  assert.equal(result.error, undefined);
  assert.equal(result.hash.slice(0, HASH.length), HASH);
  assert.match(result.text, /Paris/);
});

test("a model is kept in storage, and the next visit downloads nothing", async () => {
  const first = await run(page, kept);
  assert.equal(first.error, undefined);
  assert.equal(first.hash.slice(0, HASH.length), HASH);
  assert.ok(first.phases.download && first.phases.check, JSON.stringify(first.phases));
  const requests = here.requests.kept;
  const again = await run(await open(), kept, {}, 2);
  assert.equal(again.error, undefined);
  assert.equal(here.requests.kept, requests);
});

const runs = [["resident32", 1], ["resident32", 2], ["sharded32", 1], ["sharded32", 2], ["multi32", 1], ["multi32", 2], ["native64", 1], ["native64", 2], ["paged", 1]];
for (const [placement, ranks] of runs) {
  const skip = (placement === "multi32" && !can.multiMemory.ok && can.multiMemory.why) || (placement === "native64" && !can.memory64.ok && can.memory64.why) || false;
  test(`${placement}, ${ranks} rank(s): the hash of all engines`, { skip }, async () => {
    const more = placement === "sharded32" ? { memories: 3 } : placement === "paged" ? { residentBytes: 48 << 20 } : {};
    const result = await run(page, kept, { placement, ranks, ...more });
    assert.equal(result.error, undefined);
    assert.deepEqual([result.placement, result.ranks], [placement, ranks]);
    assert.equal(result.hash.slice(0, HASH.length), HASH);
    if (placement === "paged") assert.ok(result.paging[0].misses > 32);
  });
}

test("plain SIMD has the same hash", async () => {
  const result = await run(page, kept, { flavor: "plain" });
  assert.equal(result.hash?.slice(0, HASH.length), HASH, result.error);
});

test("a file that was chosen", async () => {
  const input = await page.$("#file");
  await input.uploadFile(MODEL);
  const result = await page.evaluate(
    (prompt, tokens) => window.open_({ kind: "file", file: document.querySelector("#file").files[0] }, {}, prompt, tokens), PROMPT, TOKENS);
  assert.equal(result.error, undefined);
  assert.equal(result.hash.slice(0, HASH.length), HASH);
});

test("a model that is split is opened by any part, from addresses, storage and files", async () => {
  const folder = mkdtempSync(join(tmpdir(), "polychord-parts-"));
  try {
    const paths = split(MODEL, folder, "split", 3);
    here.serveParts(folder);
    const url = (part) => `${here.url}/model/parts/${partName("split", part, 3)}`;
    const has = (result) => assert.equal(result.hash?.slice(0, HASH.length), HASH, result.error);
    has(await run(page, { kind: "url", url: url(1), keep: false }));
    has(await run(page, { kind: "url", url: url(2), keep: true }, { ranks: 2 }));
    const { parts } = here.requests;
    has(await run(await open(), { kind: "url", url: url(0), keep: true }));
    assert.equal(here.requests.parts, parts, "the second visit downloads nothing, by another part");
    await page.evaluate(async (url) => {
      const model = new window.Polychord();
      await model.remove(url);
      model.close();
    }, url(1));

    await page.evaluate(() => (document.querySelector("#file").multiple = true));
    const input = await page.$("#file");
    const files = (paths) => input.uploadFile(...paths).then(() =>
      page.evaluate((...args) => window.open_({ kind: "files", files: [...document.querySelector("#file").files] }, {}, ...args), PROMPT, TOKENS));
    has(await files([paths[2], paths[0], paths[1]]));
    assert.match((await files([paths[0], paths[2]])).error, /file: part 2 of 3 .*split-00002-of-00003.gguf.*choose or drop all/);
    renameSync(paths[2], join(folder, "away"));
    assert.match((await run(page, { kind: "url", url: url(0), keep: true }, {}, 1)).error, /network: part 3 of 3 .*404/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("connections that break are taken up again where they ended", async () => {
  const result = await run(page, from("breaks"), {}, 4);
  assert.equal(result.error, undefined);
  assert.ok(here.requests.breaks > 30);
  // What had come was not asked for again, but for what was under way.
  assert.ok(here.served.breaks < 125e6, `${here.served.breaks} bytes`);
});

test("a download that ended is taken up again at the next visit", async () => {
  const first = await run(page, from("ends", here, true));
  assert.match(first.error, /network: .*broke .*kept/);
  const before = here.served.ends;
  mend();
  const result = await run(await open(), from("ends", here, true), {}, 2);
  assert.equal(result.error, undefined);
  assert.ok(here.served.ends - before < 98e6 - 30e6, `${here.served.ends - before} bytes again`);
});

for (const [way, server, words] of [
  ["ignores", here, /network: .*ignores range requests/],
  ["wrong", here, /network: .*another range/],
  ["changes", here, /network: .*another range/],
  ["missing", here, /network: .*404/],
  ["good", other, /network: .*cannot be reached.*Access-Control-Allow-Origin/s],
  ["hidden", other, /network: .*Access-Control-Expose-Headers/],
]) {
  test(`a server that goes wrong (${way}${server === other ? ", another host" : ""}) gets a message`, async () => {
    const { error } = await run(page, from(way, server), {}, 1);
    assert.match(error ?? "no error", words);
  });
}

test("another host that allows it", async () => {
  const result = await run(page, from("allows", other), {}, 2);
  assert.equal(result.error, undefined);
});

test("a hash that is not the expected one removes the file", async () => {
  const { error } = await run(page, { ...from("good", here, true), sha256: "0".repeat(64) }, {}, 1);
  assert.match(error, /file: .*SHA-256/);
});

test("storage that is full gets a message with the numbers, and the page goes on", { skip: name !== "chromium" && "only Chromium lets tests set a quota" }, async () => {
  const page = await open(other);
  const session = await page.createCDPSession();
  await session.send("Storage.overrideQuotaForOrigin", { origin: other.url, quotaSize: 50e6 });
  const source = { kind: "url", url: `${other.url}/model/good/model.gguf?full`, keep: true };
  const { error } = await run(page, source, {}, 1);
  assert.match(error ?? "no error", /storage: .*98362432 bytes/);
  const result = await run(page, { ...source, keep: false }, {}, 2);
  assert.equal(result.error, undefined);
  await session.send("Storage.overrideQuotaForOrigin", { origin: other.url });
  await page.close();
});

test("a page that gets no storage says so, and goes on without", { skip: name !== "chromium" && "only Chromium is told another name of this machine" }, async () => {
  const url = plain.url.replace("localhost", "models.test");
  const page = await open({ url });
  const source = { kind: "url", url: `${url}/model/good/model.gguf`, keep: true };
  const { error } = await run(page, source, {}, 1);
  assert.match(error ?? "no error", /storage: this browser gives no storage/);
  const result = await run(page, { ...source, keep: false }, {}, 2);
  assert.equal(result.error, undefined);
});

test("two tabs that want the same model download it once", async () => {
  const source = { kind: "url", url: `${here.url}/model/good/model.gguf?both`, keep: true };
  const before = here.served.good ?? 0;
  const pages = [page, await open()];
  const results = await Promise.all(pages.map((page) => run(page, source, {}, 2)));
  results.forEach((result) => assert.equal(result.error, undefined));
  assert.equal(results[0].hash, results[1].hash);
  assert.ok(here.served.good - before < 110e6, `${here.served.good - before} bytes`);
});

/** Begins a download into storage, which goes on; `window.told` has its phases, and how it ended. */
const begin = (page, source) =>
  page.evaluate((source) => {
    window.model = new window.Polychord();
    window.told = { phases: {} };
    window.model.open(source, { context: 64 }, (phase, done, total) => (window.told.phases[phase] = [done, total]))
      .then(() => (window.told.end = "ready"), (error) => (window.told.end = `${error.kind}: ${error.message}`));
  }, source);
// By the clock: tabs in the background have no frames.
const until = (page, what) => page.waitForFunction(`window.told.${what}`, { timeout: 300_000, polling: 100 });
const end = async (page) => (await until(page, "end")).jsonValue();

test("storage that fills up while a model comes gets a message, and the page goes on", { skip: name !== "chromium" && "only Chromium lets tests set a quota" }, async () => {
  const page = await open(other);
  const session = await page.createCDPSession();
  const source = { kind: "url", url: `${other.url}/model/slow/model.gguf?fills`, keep: true };
  await begin(page, source);
  await until(page, "phases.download?.[0] > 4e6");
  await session.send("Storage.overrideQuotaForOrigin", { origin: other.url, quotaSize: 1e6 });
  assert.match(await end(page), /^storage: storage is full: the model takes 98362432 bytes\. Free space/);
  // Room is there again, and what had come is of use.
  await session.send("Storage.overrideQuotaForOrigin", { origin: other.url });
  const result = await run(page, source, {}, 2);
  assert.equal(result.error, undefined);
  await page.close();
});

test("a tab that is closed while it downloads leaves what came to the one that waits", async () => {
  const source = { kind: "url", url: `${here.url}/model/slow/model.gguf?closed`, keep: true };
  const [first, second, third] = [await open(), await open(), await open()];
  await begin(first, source);
  // Four pieces of 8 MiB are complete by then, and written down.
  await until(first, "phases.download?.[0] > 60e6");
  await begin(second, source);
  await begin(third, source);
  await until(second, "phases.waiting");
  await until(third, "phases.waiting");
  await third.evaluate(() => window.model.cancel());
  assert.match(await end(third), /^cancelled: loading was stopped/);
  const before = here.served.slow;
  await first.close();
  assert.equal(await end(second), "ready");
  assert.ok(here.served.slow - before < 90e6, `${here.served.slow - before} bytes more`);
  await Promise.all([second.close(), third.close()]);
});

test("another address of a model that is in storage, and open, has the same file", async () => {
  const user = await open();
  const paged = await user.evaluate(async (source) => {
    window.model = new window.Polychord();
    await window.model.open(source, { context: 64, placement: "paged", residentBytes: 48 << 20 });
    return "ready";
  }, kept);
  assert.equal(paged, "ready");
  const mirror = { kind: "url", url: `${here.url}/model/good/model.gguf?mirror`, keep: true };
  assert.equal((await run(page, mirror)).hash?.slice(0, HASH.length), HASH);
  // What is read from is not removed under its reader.
  const remove = (url) => page.evaluate(async (url) => {
    const model = new window.Polychord();
    const told = await model.remove(url).then(() => "removed", (error) => `${error.kind}: ${error.message}`);
    model.close();
    return told;
  }, url);
  assert.match(await remove(kept.url), /^storage: .* is in use, here or in another tab/);
  const text = await user.evaluate(async (prompt) => (await window.model.generate({ prompt }, { maxTokens: 2 })).text, PROMPT);
  assert.match(text, /Paris/);
  await user.close();
  // Its worker ends a little later.
  let told;
  for (let wait = 0; wait < 50 && told !== "removed"; wait += 1) {
    told = await remove(kept.url);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(told, "removed");
  const requests = here.requests.kept;
  assert.equal((await run(page, kept, {}, 2)).error, undefined);
  assert.ok(here.requests.kept > requests, "it was there no more");
});

test("a file in storage that was cut is loaded again", async () => {
  const cut = await page.evaluate(async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("polychord-models");
    let count = 0;
    for await (const [name, handle] of folder.entries()) {
      if (!name.endsWith(".gguf")) continue;
      const writer = await handle.createWritable({ keepExistingData: true });
      await writer.truncate(50e6);
      await writer.close();
      count += 1;
    }
    return count;
  });
  assert.ok(cut > 0);
  const requests = here.requests.kept;
  assert.equal((await run(page, kept)).hash?.slice(0, HASH.length), HASH);
  assert.ok(here.requests.kept > requests);
});

test("what is asked while a model answers comes after the answer", async () => {
  const [first, second, again] = await page.evaluate(async (source, prompt) => {
    const model = new window.Polychord();
    await model.open(source, { context: 64 });
    const all = [model.generate({ prompt }, { maxTokens: 8 }), model.generate({ prompt }, { maxTokens: 8 }), model.open(source, { context: 64 }), model.generate({ prompt }, { maxTokens: 8 })];
    const [first, second, , again] = await Promise.all(all);
    model.close();
    return [first.text, second.text, again.text];
  }, kept, PROMPT);
  assert.match(first, /Paris/);
  assert.deepEqual([second, again], [first, first]);
});

test("addresses and tokens that are none are refused in words", async () => {
  for (const [address, words] of [["http://", /no address/], ["ftp://localhost/a.gguf", /ftp:/], ["data:,GGUF", /data:/]]) {
    for (const keep of [false, true]) {
      const { error } = await run(page, { kind: "url", url: address, keep }, {}, 1);
      assert.match(error, words);
      assert.match(error, /^argument: /);
    }
  }
  const error = await page.evaluate(async (source) => {
    const model = new window.Polychord();
    await model.open(source, { context: 64 });
    const told = await model.generate({ ids: [1, 2.5] }).then(() => "", (error) => `${error.kind}: ${error.message}`);
    model.close();
    return told;
  }, kept);
  assert.match(error, /^argument: the token 2.5 is not in the vocabulary/);
});

test("a page without the two headers gets one rank, and the reason", async () => {
  const result = await run(await open(plain), from("good", plain), { ranks: 2 }, 2);
  assert.equal(result.error, undefined);
  assert.equal(result.ranks, 1);
  assert.ok(result.reasons.some((reason) => /Cross-Origin-Opener-Policy/.test(reason)), result.reasons.join("; "));
});

test("a worker that fails ends the others with its own error, and the page goes on", async () => {
  const { error } = await run(page, from("first"), { ranks: 2 }, 1);
  assert.match(error ?? "no error", /network: .*404/);
  assert.equal((await run(page, kept, { ranks: 2 }, 2)).error, undefined);
});

test("a worker that ends by itself gets a message, and the next model opens", async () => {
  const [error, text] = await page.evaluate(async (source, prompt) => {
    const model = new window.Polychord();
    await model.open(source, { context: 64 });
    const answer = model.generate({ prompt }, { maxTokens: 64 }).then(() => "no error", (error) => `${error.kind}: ${error.message}`);
    // What no code of the worker catches.
    model.worker.dispatchEvent(new ErrorEvent("error", { message: "out of memory" }));
    const told = await answer;
    await model.open(source, { context: 64 });
    const { text } = await model.generate({ prompt }, { maxTokens: 2 });
    model.close();
    return [told, text];
  }, kept, PROMPT);
  assert.match(error, /memory: the worker has ended, probably for want of memory: out of memory/);
  assert.match(text, /Paris/);
});

test("a file that is no model, and more memory than there is", async () => {
  const bad = await page.evaluate(() => window.open_({ kind: "file", file: new Blob(["PK and so on"]) }, {}, "", 1));
  assert.match(bad.error, /file: .*GGUF/);
  const small = await run(page, kept, { placement: "resident32", host: { memory32Bytes: 64 << 20 } }, 1);
  assert.match(small.error, /memory: resident32 needs \d+ bytes of weights .* a 32-bit memory here has 67108864/);
  assert.equal((await run(page, kept, {}, 1)).error, undefined);
});

test("memory that the browser does not give after all gets a message, and the page goes on", { skip: !can.multiMemory.ok && can.multiMemory.why }, async () => {
  // Plans trust what was measured, which is not true any more where other tabs have taken memory since.
  const error = await page.evaluate(async (source) => {
    const model = new window.Polychord();
    try {
      const opened = await model.open(source, { placement: "multi32", context: 64 });
      const plan = JSON.parse(opened.plan);
      plan.memories.find((memory) => memory.region === "kv").bytes = 6 * 2 ** 30;
      await model.open(source, { plan, context: 64, host: { memory32Bytes: 2 ** 40 } });
      return "it was opened";
    } catch (error) {
      return `${error.kind}: ${error.message}`;
    } finally {
      model.close();
    }
  }, kept);
  assert.match(error, /^memory: a memory of \d+ bytes cannot grow by 6442450944: .*Close other tabs/);
  assert.equal((await run(page, kept, {}, 1)).error, undefined);
});
