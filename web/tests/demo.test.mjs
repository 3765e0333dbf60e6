// The demo page as a person uses it, in a real browser, headless: by keyboard, on the width of a phone,
// without a network after the first visit. Screenshots go into the folder SCREENSHOTS, if it is set.
//
//   BROWSER=chromium|firefox node --test web/tests/demo.test.mjs

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { serveDemo } from "../dist/serve.js";
import { launch } from "./lib/browser.mjs";
import { HASH, MODEL } from "./lib/model.mjs";

const name = process.env.BROWSER ?? "chromium";
const profile = mkdtempSync(join(tmpdir(), "polychord-browser-"));
const { server, url } = await serveDemo(0, MODEL);
const browser = await launch(name, profile);
test.after(async () => {
  await browser.close();
  server.closeAllConnections();
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
});

const page = await browser.newPage();
const errors = [];
page.on("pageerror", (error) => errors.push(error.message));
await page.setViewport({ width: 360, height: 740 });
await page.goto(url);
const text = (id) => page.$eval(`#${id}`, (it) => it.textContent);
const shot = async (what) => {
  if (!process.env.SCREENSHOTS) return;
  // What is on its way to the screen comes first.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}-${what}.png`), fullPage: true });
};
// Minutes, for machines that do something else, too.
const until = (condition, timeout = 300_000) => page.waitForFunction(condition, { timeout });

test("it fits on a phone, and says what the browser can do", async () => {
  await until("document.querySelectorAll('#can tbody tr').length > 6");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${wide} pixels too wide`);
  await shot("phone");
});

test("all that can be used has a name, and is reached by keyboard", async () => {
  const nameless = await page.$$eval("input, select, textarea, button, a, progress", (all) =>
    all.filter((it) => !(it.labels?.length || it.textContent.trim() || it.getAttribute("aria-label"))).map((it) => it.outerHTML));
  assert.deepEqual(nameless, []);
  const reached = new Set();
  const wanted = ["skip", "url", "load", "file", "prompt"];
  // Not further: Firefox goes on into its own buttons, which then get the keys of later tests.
  for (let step = 0; step < 25 && !wanted.every((id) => reached.has(id)); step += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
  }
  for (const id of wanted) assert.ok(reached.has(id), `${id} is not among ${[...reached]}`);
});

test("the model of the server is loaded, and answers", async () => {
  await until("document.querySelector('#url').value.endsWith('/model.gguf')");
  await page.focus("#load");
  await page.keyboard.press("Enter");
  await until("/is ready/.test(document.querySelector('#state').textContent)");
  assert.match(await text("memory"), /0/);
  await page.type("#prompt", "Explain in one sentence what a language model is.");
  await page.keyboard.press("Enter");
  await until("!document.querySelector('#send').disabled");
  assert.match(await text("chat"), /A language model is a computer program designed to generate/);
  assert.match(await text("speed"), /tokens\/s/);
  await shot("chat");
});

test("an answer is stopped, and the next one comes", async () => {
  // Pressed by the page itself at the first words: a driver that is slow would come after the last ones.
  await page.evaluate(() => {
    const [chat, stop] = ["chat", "stop"].map((id) => document.getElementById(id));
    const watch = new MutationObserver(() => {
      const said = chat.lastElementChild;
      if (!said?.classList.contains("assistant") || said.textContent.length < 30) return;
      watch.disconnect();
      stop.click();
    });
    watch.observe(chat, { childList: true, subtree: true, characterData: true });
  });
  await page.type("#prompt", "Tell me a long story about a fox and a hen.");
  await page.keyboard.press("Enter");
  await until("!document.querySelector('#send').disabled");
  assert.match(await text("speed"), /stopped/);
  await page.type("#prompt", "Thank you.");
  await page.keyboard.press("Enter");
  await until("document.querySelector('#chat').lastElementChild.textContent.length > 10 && !document.querySelector('#send').disabled");
});

test("all placements have one hash", async () => {
  await page.click("#compare");
  await until("/every logit|different/.test(document.querySelector('#verdict').textContent)");
  assert.match(await text("verdict"), /One answer/);
  assert.match(await text("comparison"), new RegExp(HASH));
  await page.setViewport({ width: 1100, height: 900 });
  await shot("compare");
});

test("an address that is none gets a message, and the page goes on", async () => {
  await page.$eval("#url", (it) => (it.value = `${location.origin}/none.gguf`));
  await page.click("#load");
  await until("/404/.test(document.querySelector('#state').textContent)");
});

test("memories are made, filled and read back", async () => {
  await page.goto(new URL("allocations.html", url).href);
  const rows = () => page.$$eval("#results tbody tr", (rows) => rows.map((row) => row.textContent));
  const done = () => until("document.querySelector('#state').textContent === 'Done.'", 900_000);
  // Sizes that this machine has; scripts/test-web gives more where there is more.
  const most = process.env.ALLOCATE_GIB ?? "1";
  await page.$eval("#most", (it, most) => (it.value = most), most);
  await page.click("#start");
  await done();
  const results = await rows();
  console.log(JSON.stringify(results));
  assert.equal(results.length, 2 * most);
  results.forEach((row) => assert.match(row, /filled and read back/));
  await page.setViewport({ width: 360, height: 740 });
  await shot("allocations");

  // Where there is no more, it says so, and goes on with the other kind; pages of workers are not to be changed.
  await page.evaluate(() => {
    const Original = window.Worker;
    window.Worker = function (name) {
      const code = "Object.defineProperty(WebAssembly.Memory.prototype, 'grow', { value() { throw new RangeError('Unable to grow instance memory'); } });";
      return new Original(URL.createObjectURL(new Blob([`${code} importScripts(${JSON.stringify(new URL(name, location.href).href)});`])));
    };
  });
  await page.click("#start");
  await until("document.querySelector('#results').tBodies[0].rows.length === 2");
  await done();
  (await rows()).forEach((row) => assert.match(row, /this browser or machine gives no more \(RangeError: Unable to grow/));
  await shot("allocations-refused");

  // It is stopped at once.
  await page.evaluate(() => {
    window.Worker = class {
      postMessage() {}
      terminate() {}
    };
  });
  await page.click("#start");
  await page.click("#stop");
  await until("document.querySelector('#state').textContent === 'Stopped.'");
});

test("after the first visit there is no need of a network", async () => {
  await page.goto(url);
  await until("document.documentElement.dataset.offline === 'ready'");
  await until("navigator.serviceWorker.controller");
  // Nothing is under way any more: a request that is cut off by the next visit is an error of its page.
  await until("document.querySelectorAll('#can tbody tr').length > 6");
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await page.goto(url);
  await until("document.querySelectorAll('#can tbody tr').length > 6");
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  await page.$eval("#url", (it) => (it.value = `${location.origin}/model.gguf`));
  await page.click("#load");
  await until("/is ready|cannot/.test(document.querySelector('#state').textContent)");
  assert.match(await text("state"), /is ready/);
  await page.type("#prompt", "Explain in one sentence what a language model is.");
  await page.keyboard.press("Enter");
  await until("document.querySelector('#chat').textContent.length > 80 && !document.querySelector('#send').disabled");
  assert.match(await text("chat"), /A language model is a computer program/);
  assert.deepEqual(errors, []);
});
