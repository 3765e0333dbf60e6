// The executor of WebGPU on the software adapter of Chromium: each type of weights against sums of 64-bit
// floats, and the default model against the guest.
//
//   node --test web/tests/gpu.test.mjs
//
// POLYCHORD_FAMILIES is a folder that the example make_families has filled: small networks of Llama's graph.
// A token of the default model takes 14 s on that adapter on a busy machine of two processors, so it gets
// few of them; GPU_WHOLE=1 has it compute the whole prompt.

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

for (const type of ["F32", "F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"]) {
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

/** Runs a model by the guest and by WebGPU, and compares logits and tokens. */
async function compare(url, { prompt, most, ids, maxTokens }) {
  const found = await page.evaluate(async (url, prompt, most, ids, maxTokens) => {
    const { Session, UrlSource } = await import("/dist/index.js");
    const run = async (executor) => {
      const session = await Session.start(await UrlSource.open(url), { context: 64, executor, activations: "f32" });
      const tokens = ids ?? session.encode(prompt).slice(0, most);
      const all = [];
      const began = performance.now();
      for await (const { id } of session.generate(tokens, { maxTokens })) {
        all.push({ id, logits: Float32Array.from(new Float32Array(session.logits().slice().buffer)) });
      }
      // A sequence that is cut goes on.
      session.truncate(tokens.length - 2);
      await session.eval(tokens.slice(-2));
      const again = new Float32Array(session.logits().slice().buffer);
      const off = again.reduce((most, logit, at) => Math.max(most, Math.abs(logit - all[0].logits[at])), 0);
      const { reasons } = session;
      await session.close();
      const perToken = (performance.now() - began) / (tokens.length + maxTokens + 1);
      return { all, off, reasons, perToken };
    };
    const [guest, gpu] = [await run("guest"), await run("webgpu")];
    const off = guest.all.map(({ logits }, step) => {
      const [most, squares] = logits.reduce(([most, sum], logit, at) => [Math.max(most, Math.abs(logit - gpu.all[step].logits[at])), sum + logit * logit], [0, 0]);
      return most / Math.sqrt(squares / logits.length);
    });
    return { ids: [guest, gpu].map(({ all }) => all.map(({ id }) => id)), off, cut: gpu.off, reasons: gpu.reasons, perToken: [guest, gpu].map((it) => it.perToken) };
  }, url, prompt, most, ids, maxTokens);
  console.log(JSON.stringify(found));
  assert.deepEqual(found.ids[1], found.ids[0]);
  assert.ok(found.off.every((it) => it > 0 && it < 1e-3), `off by ${found.off} of the logits' root mean square`);
  assert.ok(found.cut < 1e-3, `a sequence that was cut is off by ${found.cut}`);
  assert.match(found.reasons.join(), /within a tolerance/);
}

const families = process.env.POLYCHORD_FAMILIES;
if (families) server.serveParts(families);
const skip = !families && "POLYCHORD_FAMILIES is not set";
const ids = Array.from({ length: 40 }, (_, index) => (index * 7 + 3) % 61);

for (const name of ["llama-small", "llama-freqs", "llama-linear"]) {
  test(`${name}: tokens of the guest, and logits within the tolerance`, { skip, timeout: 300_000 }, () =>
    compare(`${server.url}/model/parts/${name}.gguf`, { ids, maxTokens: 3 }));
}

test("networks of other graphs are refused in words", { skip }, async () => {
  for (const [name, what] of [["llama-moe", /more than the graph of Llama/], ["llama-wide", /144 columns.*use the guest/], ["llama-yarn", /YaRN/], ["gemma3-small", /use the guest/]]) {
    const error = await page.evaluate(async (url) => {
      const { Session, UrlSource } = await import("/dist/index.js");
      return Session.start(await UrlSource.open(url), { context: 64, executor: "webgpu" }).then(() => "it was taken", (error) => `${error.kind}: ${error.message}`);
    }, `${server.url}/model/parts/${name}.gguf`);
    assert.match(error, what, name);
  }
});

test("the default model: tokens of the guest, and logits within the tolerance", { timeout: 900_000 }, () =>
  compare(`${server.url}/model/good/model.gguf`, { prompt: PROMPT, most: process.env.GPU_WHOLE ? 64 : 2, maxTokens: 2 }));

test("what has no kernels is refused in words", async () => {
  const error = await page.evaluate(async () => {
    const { Device } = await import("/dist/gpu/device.js");
    const { BytesSource } = await import("/dist/source.js");
    const device = await Device.open();
    return device.matrix(new BytesSource(new Uint8Array(1000)), { type: "IQ2_XS", start: 0, bytes: 74, cols: 256, rows: 1 }).then(() => "", (error) => error.message);
  });
  assert.match(error, /IQ2_XS.*use the guest/);
});
