#!/usr/bin/env node
// The command `polychord-web`.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { capabilities, choose } from "./capabilities.js";
import { PolychordError } from "./errors.js";
import { NodeFile, openWhole, partsOf, startSession } from "./node.js";
import type { ModelInfo, SessionOptions } from "./session.js";

const USAGE = `usage: polychord-web generate [OPTIONS] MODEL [PROMPT]
       polychord-web serve [--port N] [MODEL]
       polychord-web capabilities

Runs a GGUF model in Node's own WebAssembly engine; serves the demo page to browsers on this machine.

  -n, --max-tokens N      most tokens to generate (default 32)
      --ids 1,2,3         tokens in place of a prompt
      --chat              the prompt is a message for the model to answer
      --placement NAME    auto, resident32, sharded32, multi32, native64 or paged
      --memories N        how many guests sharded32 has
      --resident BYTES    bytes of weights that paged holds at a time
      --plan FILE         a plan, as 'polychord plan' writes it
      --context N         tokens of context
      --ranks N           threads that compute together
      --guest FLAVOR      auto, plain or relaxed (SIMD)
      --activations KIND  f32 or int8
      --cache-type KIND   f32 or f16
      --temperature T     0, the default, takes the most probable token
      --seed N            for temperatures above 0
      --json              print one JSON object with the hash of all logits
      --port N            of serve (default 8080; 0 for any)
      --version           print the version
`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      "max-tokens": { type: "string", short: "n", default: "32" },
      ids: { type: "string" },
      chat: { type: "boolean", default: false },
      placement: { type: "string", default: "auto" },
      memories: { type: "string" },
      resident: { type: "string" },
      plan: { type: "string" },
      context: { type: "string" },
      ranks: { type: "string", default: "1" },
      guest: { type: "string", default: "auto" },
      activations: { type: "string" },
      "cache-type": { type: "string" },
      temperature: { type: "string", default: "0" },
      seed: { type: "string", default: "0" },
      port: { type: "string", default: "8080" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
      version: { type: "boolean", default: false },
    },
  });
  const [command, model, prompt = "The capital of France is", ...rest] = positionals;
  if (values.help) return void process.stdout.write(USAGE);
  if (values.version) {
    const { version } = JSON.parse(await readText(fileURLToPath(new URL("../package.json", import.meta.url)))) as { version: string };
    return void process.stdout.write(`polychord-web ${version}\n`);
  }
  const most = command === "serve" ? 2 : command === "capabilities" ? 1 : 3;
  if (positionals.length > most) {
    throw new Usage(`'${positionals[most]}' is one word too many${rest.length > 0 ? ": put the prompt between quotes" : ""}`);
  }
  if (command === "capabilities") {
    const can = await capabilities();
    return void process.stdout.write(`${JSON.stringify({ ...can, choice: choose(can) }, undefined, 2)}\n`);
  }
  if (command === "serve") {
    const { serveDemo } = await import("./serve.js");
    const port = number("port", values.port)!;
    if (!Number.isInteger(port) || port > 65_535) throw new Usage(`--port is ${values.port}, and can be 0 to 65535`);
    if (model !== undefined) NodeFile.open(model).close();
    const { url } = await serveDemo(port, model && resolve(model)).catch((error: unknown) => {
      throw new PolychordError("network", `port ${port} of this machine cannot be served: ${error instanceof Error ? error.message : String(error)}. Take another one by --port, or 0 for any.`);
    });
    return void process.stdout.write(`${url}\n`);
  }
  if (command !== "generate") throw new Usage(command === undefined ? "a command is needed" : `there is no command '${command}'`);
  if (model === undefined) throw new Usage("a model is needed: a file that ends in .gguf");
  if (!["auto", "plain", "relaxed"].includes(values.guest)) throw new Usage(`--guest is '${values.guest}'`);
  const maxTokens = number("max-tokens", values["max-tokens"])!;
  const began = performance.now();
  const options: SessionOptions = { placement: values.placement, flavor: values.guest as "auto", ranks: number("ranks", values.ranks)! };
  const set = <K extends keyof SessionOptions>(key: K, value: SessionOptions[K] | undefined) => {
    if (value !== undefined) options[key] = value;
  };
  set("memories", number("memories", values.memories));
  set("residentBytes", number("resident", values.resident));
  set("context", number("context", values.context));
  set("activations", values.activations);
  set("cacheType", values["cache-type"]);
  if (values.plan !== undefined) set("plan", await readPlan(values.plan));
  const ids = values.ids?.split(",").map((id) => number("ids", id)!);
  if (options.context === undefined) {
    // As much as the prompt and the answer take, as `polychord` does it.
    const { model: header, source } = await openWhole(NodeFile.open(model), partsOf(model));
    await source.close?.();
    const { length } = ids ?? (values.chat ? header.encodeChat(JSON.stringify([{ role: "user", content: prompt }]), Date.now()) : header.encode(prompt, true));
    options.context = Math.min(length + maxTokens, (JSON.parse(header.info()) as ModelInfo).contextLength);
    header.free();
  }
  const session = await startSession(model, options);
  const ready = performance.now() - began;
  const tokens = ids ?? (values.chat ? session.encodeChat([{ role: "user", content: prompt }]) : session.encode(prompt));
  const sampling = { temperature: number("temperature", values.temperature)!, seed: number("seed", values.seed)! };
  const answer = session.generate(tokens, { maxTokens, sampling, hash: values.json });
  let step = await answer.next();
  for (; !step.done; step = await answer.next()) {
    if (!values.json) process.stdout.write(printable(step.value.text));
  }
  const outcome = step.value;
  if (values.json) {
    const { name, reason } = session.placement;
    const { flavor, ranks, reasons } = session;
    const memoryBytes = session.memoryBytes();
    const peakBytes = await peak();
    const all = { ...outcome, ready, placement: name, reason, reasons, flavor, ranks, memoryBytes, peakBytes, paging: session.pagerStats() };
    process.stdout.write(`${JSON.stringify(all)}\n`);
  } else {
    const rate = outcome.ids.length > 1 ? `, ${((outcome.ids.length - 1) / (outcome.decodeMilliseconds / 1000)).toFixed(1)} tokens/s` : "";
    process.stdout.write("\n");
    process.stderr.write(
      `${outcome.ids.length} token(s)${rate}; ready after ${ready.toFixed(0)} ms; ` +
        `${session.placement.name} (${session.placement.reason}), ${session.flavor} SIMD, ${session.ranks} rank(s)\n`,
    );
  }
  await session.close();
}

function number(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+(\.\d+)?$/.test(text)) throw new Usage(`--${name} is '${text}', which is no number`);
  return Number(text);
}

function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch((error: unknown) => {
    throw new PolychordError("file", `${path} cannot be read: ${String(error)}`, { cause: error });
  });
}

async function readPlan(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new PolychordError("file", `${path} is no plan: ${String(error)}`, { cause: error });
  }
}

/** Most bytes that this process has had in memory. `maxRSS` counts what its parent had before it began, too. */
async function peak(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8").catch(() => "");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? process.resourceUsage().maxRSS) * 1024;
}

/** What a model writes must not control the terminal. */
function printable(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd");
}

class Usage extends Error {}

// What reads the text may have had enough of it, as `head` does.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  await main();
} catch (error) {
  const usage = error instanceof Usage || (error instanceof TypeError && "code" in error);
  process.stderr.write(`polychord-web: ${error instanceof Error ? error.message : String(error)}\n`);
  if (!usage && !(error instanceof PolychordError)) process.stderr.write(`${error instanceof Error ? error.stack : ""}\n`);
  if (usage) process.stderr.write(`\n${USAGE}`);
  process.exitCode = usage ? 2 : 1;
}
