// The executor of WebGPU on the software adapter of Chromium: each type of weights against sums of 64-bit
// floats, and the default model against the guest.
//
//   node --test web/tests/gpu.test.mjs

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { launch } from "./lib/browser.mjs";
import { blocksOf } from "./lib/blocks.mjs";
import { PROMPT } from "./lib/model.mjs";
import { start } from "./lib/server.mjs";

const profile = mkdtempSync(join(tmpdir(), "polychord-browser-"));
const server = await start();
const browser = await launch("chromium", profile, ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]);
test.after(async () => {
  await browser.close();
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
});
const page = await browser.newPage();
page.on("console", (message) => console.log(message.text()));
page.on("pageerror", (error) => console.error(`page: ${error.message}`));
await page.goto(`${server.url}/tests/page.html`);
await page.waitForFunction("window.ready");

const [ROWS, COLUMNS, BATCH] = [70, 512, 3];

for (const type of ["F32", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"]) {
  test(`${type}: products are those of the numbers that are stored`, { timeout: 120_000 }, async () => {
    const { bytes, numbers } = blocksOf(type, ROWS * COLUMNS);
    const x = Float32Array.from({ length: BATCH * COLUMNS }, (_, index) => Math.sin(index * 0.7) * 2);
    const found = await page.evaluate(async (type, bytes, x, rows, cols, batch) => {
      const { Device } = await import("/dist/gpu/device.js");
      const { BytesSource } = await import("/dist/source.js");
      const device = await Device.open();
      const data = Uint8Array.from(bytes);
      const tensor = { type, start: 0, bytes: data.length, cols, rows };
      const matrix = await device.matrix(new BytesSource(data), tensor);
      const input = device.filled(Float32Array.from(x));
      const output = device.buffer(rows * batch * 4);
      const readable = device.buffer(rows * batch * 4, 0x01 | 0x08);
      const y = await device.run(device.multiply(matrix, input, output), batch, { from: output, to: readable });
      // The same rows, looked up.
      const tokens = device.filled(Uint32Array.of(rows - 1, 0, 7));
      const looked = device.buffer(cols * 3 * 4);
      const shown = device.buffer(cols * 3 * 4, 0x01 | 0x08);
      const rowsFound = await device.run(device.lookup(matrix, tokens, looked), 3, { from: looked, to: shown });
      device.close();
      return { y: [...new Float32Array(y)], looked: [...new Float32Array(rowsFound)], name: device.name };
    }, type, [...bytes], [...x], ROWS, COLUMNS, BATCH);
    for (const [index, row] of [ROWS - 1, 0, 7].entries()) {
      for (let at = 0; at < COLUMNS; at += 1) {
        const [expected, got] = [numbers[row * COLUMNS + at], found.looked[index * COLUMNS + at]];
        assert.ok(Math.abs(expected - got) <= 1e-6 * Math.max(1, Math.abs(expected)), `${type}, row ${row}, ${at}: ${got} in place of ${expected}`);
      }
    }
    let worst = 0;
    for (let column = 0; column < BATCH; column += 1) {
      for (let row = 0; row < ROWS; row += 1) {
        let [sum, size] = [0, 0];
        for (let at = 0; at < COLUMNS; at += 1) {
          const product = numbers[row * COLUMNS + at] * x[column * COLUMNS + at];
          sum += product;
          size += Math.abs(product);
        }
        const off = Math.abs(found.y[column * ROWS + row] - sum) / size;
        worst = Math.max(worst, off);
        assert.ok(off < 1e-6, `${type}, row ${row} of column ${column}: ${found.y[column * ROWS + row]} in place of ${sum}`);
      }
    }
    console.log(JSON.stringify({ type, worst, adapter: found.name }));
  });
}

test("the default model: tokens of the guest, and logits within the tolerance", { timeout: 600_000 }, async () => {
  const found = await page.evaluate(async (url, prompt) => {
    const { Session, UrlSource } = await import("/dist/index.js");
    const run = async (executor) => {
      const began = performance.now();
      const told = (what) => console.log(`${executor}: ${what} after ${Math.round(performance.now() - began)} ms`);
      const session = await Session.start(await UrlSource.open(url), { context: 64, executor, activations: "f32" });
      told("ready");
      const tokens = session.encode(prompt);
      const all = [];
      for await (const { id } of session.generate(tokens, { maxTokens: 2 })) {
        told(`token ${id}`);
        all.push({ id, logits: Float32Array.from(new Float32Array(session.logits().slice().buffer)) });
      }
      // A sequence that is cut goes on.
      session.truncate(3);
      await session.eval(tokens.slice(3));
      const again = new Float32Array(session.logits().slice().buffer);
      const same = again.every((logit, at) => Math.abs(logit - all[0].logits[at]) < 1e-3);
      const { reasons } = session;
      await session.close();
      return { all, same, reasons };
    };
    const [guest, gpu] = [await run("guest"), await run("webgpu")];
    const off = guest.all.map(({ logits }, step) => {
      const [most, spread] = logits.reduce(([most, sum], logit, at) => [Math.max(most, Math.abs(logit - gpu.all[step].logits[at])), sum + logit * logit], [0, 0]);
      return most / Math.sqrt(spread / logits.length);
    });
    return { ids: [guest, gpu].map(({ all }) => all.map(({ id }) => id)), off, same: gpu.same, reasons: gpu.reasons };
  }, `${server.url}/model/good/model.gguf`, PROMPT);
  console.log(JSON.stringify(found));
  assert.deepEqual(found.ids[1], found.ids[0]);
  assert.ok(found.off.every((it) => it > 0 && it < 1e-3), `off by ${found.off} of the logits' root mean square`);
  assert.ok(found.same, "a sequence that was cut");
  assert.match(found.reasons.join(), /within a tolerance/);
});

test("what has no kernels is refused in words", async () => {
  const error = await page.evaluate(async () => {
    const { Device } = await import("/dist/gpu/device.js");
    const { BytesSource } = await import("/dist/source.js");
    const device = await Device.open();
    return device.matrix(new BytesSource(new Uint8Array(1000)), { type: "IQ2_XS", start: 0, bytes: 74, cols: 256, rows: 1 }).then(() => "", (error) => error.message);
  });
  assert.match(error, /IQ2_XS.*use the guest/);
});
