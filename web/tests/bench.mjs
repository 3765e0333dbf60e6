// Speed and memory beside wllama, in the same browser, with the same model from the same server.
//
//   scripts/bench-web [chromium|firefox] [ROUNDS]
//
// Each run has a browser and a profile of its own. Memory is the largest sum of PSS over the processes of
// the browser, less that of the browser with an empty page.

import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { launch } from "./lib/browser.mjs";
import { MODEL } from "./lib/model.mjs";
import { start } from "./lib/server.mjs";
import { NodeFile, openWhole } from "../dist/node.js";

const name = process.argv[2] ?? "chromium";
const rounds = Number(process.argv[3] ?? 3);
const words = "The history of the city begins with a small village at the river, where boats from the north brought salt and cloth. ";
const prompt = words.repeat(5);
const server = await start();
/** Tokens of the prompt, by the tokenizer of `model`, for both. */
const { model: header } = await openWhole(NodeFile.open(MODEL));
const promptTokens = header.encode(prompt, true).length;
header.free();

/** PSS of a process and all below it, in MiB. */
function pss(root) {
  const children = new Map();
  for (const pid of readdirSync("/proc").filter((it) => /^\d+$/.test(it))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const parent = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
      children.set(parent, [...(children.get(parent) ?? []), pid]);
    } catch {
      // It has just ended.
    }
  }
  const sum = (pid) => {
    let own = 0;
    try {
      own = Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]) / 1024;
    } catch {
      // As above.
    }
    return own + (children.get(pid) ?? []).reduce((total, child) => total + sum(child), 0);
  };
  return sum(String(root));
}

async function once(what, threads) {
  const profile = mkdtempSync(join(tmpdir(), "polychord-bench-"));
  const browser = await launch(name, profile);
  try {
    const pid = browser.process().pid;
    let page = await browser.newPage();
    await page.goto(`${server.url}/tests/bench.html`);
    await page.waitForFunction("window.ready");
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const empty = pss(pid);
    let peak = 0;
    const watch = setInterval(() => (peak = Math.max(peak, pss(pid))), 250);
    const options = { threads, prompt, tokens: 64, keep: true };
    const run = () => page.evaluate((what, url, options) => window[what](url, options), what, `${server.url}/model/good/model.gguf`, options);
    const cold = await run();
    clearInterval(watch);
    const memory = peak - empty;
    await page.close();
    page = await browser.newPage();
    await page.goto(`${server.url}/tests/bench.html`);
    await page.waitForFunction("window.ready");
    const warm = await run();
    return { what, threads: cold.threads, decode: Math.max(cold.decode, warm.decode), prompt: (1000 * promptTokens) / warm.promptMilliseconds, cold: cold.first, warm: warm.first, memory, text: cold.text.slice(0, 60) };
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const all = [];
for (let round = 0; round < rounds; round += 1) {
  for (const threads of [1, 2]) {
    for (const what of ["polychord", "wllama"]) {
      try {
        const result = await once(what, threads);
        console.error(JSON.stringify(result));
        all.push(result);
      } catch (error) {
        console.error(`${what}, ${threads}: ${error.message}`);
      }
    }
  }
}
server.close();
console.log("| | threads | decode, tokens/s | prompt, tokens/s | first token cold, ms | warm, ms | memory, MiB |\n| --- | --- | --- | --- | --- | --- | --- |");
for (const threads of [1, 2]) {
  for (const what of ["polychord", "wllama"]) {
    const runs = all.filter((it) => it.what === what && it.threads === threads);
    if (runs.length === 0) continue;
    const cells = ["decode", "prompt", "cold", "warm", "memory"].map((key) => median(runs.map((it) => it[key])).toFixed(key === "decode" || key === "prompt" ? 1 : 0));
    console.log(`| ${what} | ${threads} | ${cells.join(" | ")} |`);
  }
}
