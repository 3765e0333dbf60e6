// The default model in Node: its hash in all placements, alone and in two ranks, and what is wrong with
// files and options. Run with `node --test`.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readSync, readdirSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { PolychordError, capabilities, openWhole, startSession } from "../dist/node.js";
import { BytesSource } from "../dist/source.js";
import { hostileHeads } from "./lib/hostile.mjs";
import { HASH, MODEL, PROMPT, TOKENS } from "./lib/model.mjs";
import { split, withTemplate } from "./lib/split.mjs";

const can = await capabilities();
const folder = mkdtempSync(join(tmpdir(), "polychord-web-"));
test.after(() => rmSync(folder, { recursive: true }));

async function run(options, maxTokens = TOKENS) {
  const session = await startSession(MODEL, { context: 64, ...options });
  try {
    const steps = session.generate(session.encode(PROMPT), { maxTokens, hash: true });
    let step = await steps.next();
    while (!step.done) step = await steps.next();
    return { ...step.value, placement: session.placement, ranks: session.ranks, flavor: session.flavor, paging: session.pagerStats() };
  } finally {
    await session.close();
  }
}

test("relaxed SIMD is tried, and is not believed where it is wrong", () => {
  const major = Number(process.versions.node.split(".")[0]);
  if (major === 20) assert.match(can.relaxedSimd.why, /wrong|no relaxed/);
  if (major >= 24) assert.equal(can.relaxedSimd.ok, true, can.relaxedSimd.why);
});

const runs = [
  ["resident32", 1], ["resident32", 2], ["sharded32", 1], ["sharded32", 2],
  ["multi32", 1], ["multi32", 2], ["native64", 1], ["native64", 2], ["paged", 1],
  // More than one part of heads of keys, and parts that are not alike.
  ["resident32", 3], ["sharded32", 5],
];
for (const [placement, ranks] of runs) {
  const skip =
    (placement === "multi32" && !can.multiMemory.ok && can.multiMemory.why) ||
    (placement === "native64" && !can.memory64.ok && can.memory64.why) || false;
  test(`${placement}, ${ranks} rank(s): the hash of all engines`, { skip }, async () => {
    const more = placement === "sharded32" ? { memories: 3 } : placement === "paged" ? { residentBytes: 48 << 20 } : {};
    const result = await run({ placement, ranks, ...more });
    assert.equal(result.placement.name, placement);
    assert.equal(result.ranks, ranks);
    assert.equal(result.hash.slice(0, HASH.length), HASH);
    assert.match(result.text, /Paris/);
    if (placement === "paged") assert.ok(result.paging[0].misses > 32, "layers came in again and again");
    if (placement === "sharded32") assert.equal(result.placement.guests.length, 3);
  });
}

test("plain and relaxed guests have one hash", { skip: !can.relaxedSimd.ok && can.relaxedSimd.why }, async () => {
  const [plain, relaxed] = [await run({ flavor: "plain" }, 4), await run({ flavor: "relaxed" }, 4)];
  assert.deepEqual([plain.flavor, relaxed.flavor], ["plain", "relaxed"]);
  assert.equal(plain.hash, relaxed.hash);
});

test("the placements that are chosen follow the memory that there is", async () => {
  const host = { memory32Bytes: 64 << 20, memory64Bytes: 0, multiMemory: false };
  const choose = async (host) => {
    const session = await startSession(MODEL, { context: 64, host });
    await session.close();
    return session.placement.name;
  };
  assert.equal(await choose({}), "resident32");
  if (can.memory64.ok) assert.equal(await choose({ ...host, memory64Bytes: 1 << 30 }), "native64");
  if (can.multiMemory.ok) assert.equal(await choose({ ...host, multiMemory: true }), "multi32");
  assert.equal(await choose(host), "sharded32");
  assert.equal(await choose({ ...host, totalBytes: 100 << 20 }), "paged");
  await assert.rejects(choose({ ...host, memory32Bytes: 8 << 20 }), /bytes/);
});

test("a plan is followed, and one of another model refused", async () => {
  const session = await startSession(MODEL, { context: 64, placement: "sharded32", memories: 2 });
  const plan = JSON.parse(session.plan());
  await session.close();
  const result = await run({ plan }, 4);
  assert.equal(result.placement.guests.length, 2);
  plan.layers[1].bytes += 32;
  await assert.rejects(run({ plan }, 4), (error) => error.kind === "memory" && /plan|layer/.test(error.message));
});

// POLYCHORD_PROGRAM is the command line of the repository.
const program = process.env.POLYCHORD_PROGRAM;
test("plans that `polychord plan` writes are followed", { skip: !program && "POLYCHORD_PROGRAM is not set" }, async () => {
  for (const [placement, ...more] of [["resident32"], ["sharded32", "--memories", "3"], ["multi32"]]) {
    const file = join(folder, `${placement}.json`);
    execFileSync(program, ["plan", "--placement", placement, ...more, "--output", file, MODEL], { stdio: ["ignore", "ignore", "pipe"] });
    const plan = JSON.parse(readFileSync(file, "utf8"));
    const result = await run({ plan });
    assert.equal(result.hash.slice(0, HASH.length), HASH, placement);
    if (placement === "sharded32") assert.equal(result.placement.guests.length, 3);
  }
});

test("conversations go on where they are the same, and an answer can be stopped", async () => {
  const session = await startSession(MODEL, { context: 128 });
  // The README's first command.
  const turns = [{ role: "user", content: "Explain in one sentence what a language model is." }];
  const answer = async (signal, maxTokens = 32) => {
    const steps = session.generate(session.encodeChat(turns), { maxTokens, hash: true, signal });
    let step = await steps.next();
    while (!step.done) step = await steps.next();
    return step.value;
  };
  const first = await answer();
  assert.equal(first.promptTokens, 40);
  assert.match(first.text, /^A language model is a computer program designed to generate and produce text based on pre-defined\s+rules and patterns.$/);
  const again = await answer();
  assert.deepEqual([again.hash, again.ids], [first.hash, first.ids]);
  const stop = new AbortController();
  const steps = session.generate(session.encodeChat(turns), { maxTokens: 16, signal: stop.signal });
  await steps.next();
  stop.abort();
  assert.equal((await steps.next()).value.finish, "cancelled");
  assert.equal((await answer()).hash, first.hash);
  await session.close();
});

test("a rank that fails ends all with one error", async () => {
  const session = await startSession(MODEL, { context: 64, ranks: 2 });
  await assert.rejects(session.eval([1, 49_151_000]), /not in the vocabulary|has stopped/);
  // It goes on afterwards.
  await session.eval(session.encode(PROMPT));
  await session.close();
});

const path = (name, bytes) => {
  const at = join(folder, name);
  writeFileSync(at, bytes);
  return at;
};
test("files that are no models are refused in words", async () => {
  const head = Buffer.alloc(3 << 20);
  const file = openSync(MODEL, "r");
  readSync(file, head, 0, head.length, 0);
  closeSync(file);
  await assert.rejects(startSession(join(folder, "none.gguf")), /cannot be opened/);
  await assert.rejects(startSession(folder), /no regular file/);
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  await assert.rejects(startSession(pipe), /no regular file/);
  await assert.rejects(startSession(path("empty", "")), (error) => error.kind === "file");
  await assert.rejects(startSession(path("zip", "PK\x03\x04 and more")), /GGUF/);
  await assert.rejects(startSession(path("short", head.subarray(0, 1000))), /bytes/);
  await assert.rejects(startSession(path("cut", head)), (error) => error.kind === "file" && /truncated|file|end/.test(error.message));
});

test("a model that is split over several files is opened by any of them", async () => {
  const parts = split(MODEL, folder, "split", 3);
  const hash = async (file, options) => {
    const session = await startSession(file, { context: 64, ...options });
    try {
      const steps = session.generate(session.encode(PROMPT), { maxTokens: TOKENS, hash: true });
      let step = await steps.next();
      while (!step.done) step = await steps.next();
      return step.value.hash.slice(0, HASH.length);
    } finally {
      await session.close();
    }
  };
  assert.equal(await hash(parts[0], {}), HASH);
  assert.equal(await hash(parts[1], { ranks: 2 }), HASH);
  assert.equal(await hash(parts[2], { placement: "paged", residentBytes: 48 << 20 }), HASH);

  renameSync(parts[1], join(folder, "away"));
  await assert.rejects(startSession(parts[0]), (error) => error.kind === "file" && /part 2 of 3 .*split-00002-of-00003.gguf/.test(error.message));
  // A part of another model of as many parts.
  const [, other] = split(MODEL, folder, "other", 3);
  const bytes = readFileSync(other);
  bytes.write("blk.9", bytes.indexOf("blk."));
  writeFileSync(parts[1], bytes);
  await assert.rejects(startSession(parts[0]), (error) => error.kind === "file" && /another model|missing|twice|tensor/.test(error.message));
  // Its name does not tell the others.
  renameSync(other, join(folder, "plain.gguf"));
  await assert.rejects(startSession(join(folder, "plain.gguf")), /part 2 of 3 .*does not tell the others/);
});

test("a file that shrinks while it is loaded", async () => {
  const copy = path("shrinks", await import("node:fs/promises").then((fs) => fs.readFile(MODEL)));
  const options = { context: 64, progress: ({ loaded }) => loaded < 16 << 20 && truncateSync(copy, 20 << 20) };
  await assert.rejects(startSession(copy, options), /ended early/);
});

test("headers with any byte changed give errors or models, and never traps", async () => {
  const head = Buffer.alloc(64 << 10);
  const file = openSync(MODEL, "r");
  readSync(file, head, 0, head.length, 0);
  closeSync(file);
  let seed = 1;
  const random = (below) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) % below;
  for (let round = 0; round < 300; round += 1) {
    const bytes = Uint8Array.from(head.subarray(0, 24 + random(head.length - 24)));
    for (let change = 0; change < 1 + random(4); change += 1) bytes[random(Math.min(bytes.length, 2000))] = random(256);
    await openWhole(new BytesSource(bytes)).then(
      ({ model }) => model.free(),
      (error) => assert.ok(error.kind === "file" && !/unreachable|RuntimeError/.test(error.message), error.message),
    );
  }
});

test("hostile headers are refused in words, at once, and take no memory", async () => {
  const head = readFileSync(MODEL).subarray(0, 4 << 20);
  const before = process.memoryUsage();
  for (const [name, bytes] of hostileHeads(head)) {
    const began = performance.now();
    const { size } = statSync(MODEL);
    // What a file of that length would be.
    const source = { name, bytes: size, read: async (start, into) => into.set(bytes.subarray(start, start + into.byteLength)) };
    const start = async () => {
      const { model } = await openWhole(source);
      try {
        return JSON.parse(model.info());
      } finally {
        model.free();
      }
    };
    await assert.rejects(start, (error) => {
      assert.ok(error.kind === "file" && error.message.length > 20, `${name}: ${error}`);
      assert.doesNotMatch(error.message, /unreachable|RuntimeError|out of bounds|undefined/, name);
      return true;
    }, name);
    assert.ok(performance.now() - began < 10_000, `${name} took ${performance.now() - began} ms`);
  }
  const more = process.memoryUsage().rss - before.rss;
  assert.ok(more < 256 << 20, `${more} bytes more`);
});

// What the fuzz target `gguf` of the crate `model` has found in this machine's runs of scripts/fuzz: the first byte
// says how long the file claims to be.
const corpus = join(dirname(dirname(MODEL)), "fuzz", "gguf");
test("the corpus of the fuzz target for headers gives models or errors in words", { skip: !existsSync(corpus) && `${corpus} is not there: scripts/fuzz` }, async () => {
  const names = readdirSync(corpus).slice(0, 3000);
  const count = { models: 0, errors: 0 };
  for (const name of names) {
    const data = readFileSync(join(corpus, name));
    if (data.length === 0) continue;
    const [choice, bytes] = [data[0], data.subarray(1)];
    const claimed = Math.min(choice & 1 ? 2 ** (choice >> 2) : bytes.length, Number.MAX_SAFE_INTEGER);
    // Where the file ends in truth, it is cut.
    const read = async (start, into) => {
      if (start + into.byteLength > Math.max(bytes.length, 1 << 20)) throw new PolychordError("file", "it ended early");
      into.set(bytes.subarray(start, start + into.byteLength));
    };
    try {
      const { model } = await openWhole({ name, bytes: claimed, read });
      count.models += 1;
      assert.ok(model.info().length > 2);
      try {
        model.encode("Hello <|im_end|>  w\u00f6rld\n 1234", true);
        model.encodeChat(JSON.stringify([{ role: "user", content: "Hello" }]), 0);
      } catch (error) {
        assert.doesNotMatch(String(error), /unreachable|out of bounds|call stack|RuntimeError/, name);
      }
      model.free();
    } catch (error) {
      count.errors += 1;
      assert.ok(error.kind === "file" && !/unreachable|RuntimeError|out of bounds|undefined/.test(error.message), `${name}: ${error.stack}`);
    }
  }
  console.log(JSON.stringify({ files: names.length, ...count }));
  assert.ok(count.errors > 0);
});

test("hostile templates, the seeds of the fuzz target, end in an error or a text, and the model goes on", async () => {
  const seeds = fileURLToPath(new URL("../../fuzz/seeds/template", import.meta.url));
  const names = readdirSync(seeds);
  assert.ok(names.length > 10);
  const file = readFileSync(MODEL).subarray(0, 4 << 20);
  const { size } = statSync(MODEL);
  for (const name of names) {
    const { head, more } = withTemplate(file, readFileSync(join(seeds, name)));
    const source = {
      name,
      // Weights begin at a multiple of 32, which nothing reads here.
      bytes: size + more + 32,
      read: async (start, into) => into.set(head.subarray(start, start + into.byteLength)),
    };
    const { model } = await openWhole(source);
    const began = performance.now();
    let result = "a text";
    try {
      model.encodeChat(JSON.stringify([{ role: "user", content: "Hello" }, { role: "assistant", content: "Yes" }]), 0);
    } catch (error) {
      result = String(error.message);
    }
    assert.doesNotMatch(result, /unreachable|out of bounds|call stack|RuntimeError/, name);
    assert.ok(performance.now() - began < 20_000, `${name} took ${performance.now() - began} ms`);
    // Its memory is as it was.
    assert.ok(model.encode("Hello", true).length > 0);
    model.free();
  }
});

test("a process takes the model's size, 64 MiB, and what Node itself takes", { skip: !existsSync("/proc/self/status") && "this is no Linux" }, () => {
  const status = 'require("node:fs").readFileSync("/proc/self/status", "utf8")';
  const empty = Number(/^VmHWM:\s+(\d+)/m.exec(execFileSync(process.execPath, ["-p", status], { encoding: "utf8" }))[1]) * 1024;
  const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
  const args = ["generate", "--json", "-n", "4", "--context", "64", "--placement"];
  const { size } = statSync(MODEL);
  // Two ranks have the rows of one model, and one more thread of Node.
  for (const [placement, ranks, most] of [["resident32", 1, 64 << 20], ["sharded32", 1, 64 << 20], ["resident32", 2, 112 << 20]]) {
    const { peakBytes } = JSON.parse(execFileSync(process.execPath, [cli, ...args, placement, "--ranks", ranks, MODEL, PROMPT], { encoding: "utf8" }));
    const beside = peakBytes - empty - size;
    console.log(JSON.stringify({ placement, ranks, peakBytes, empty, size, beside }));
    assert.ok(beside < most, `${placement}, ${ranks} rank(s): ${beside} bytes beside the model and Node`);
  }
});

test("all that a page loads before a model is below 3 MB, compressed", () => {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const [, list] = /= (.*);/.exec(readFileSync(join(root, "dist/files.js"), "utf8"));
  const { files } = JSON.parse(list);
  const sizes = files.map((file) => gzipSync(readFileSync(join(root, file))).length);
  const [all, largest] = [sizes.reduce((sum, size) => sum + size), Math.max(...sizes)];
  console.log(JSON.stringify({ files: files.length, compressed: all, largest }));
  assert.ok(files.length > 20 && all > 500_000, "the list has what is needed");
  assert.ok(all < 3_000_000, `${all} bytes`);
});

test("options that are wrong are refused in words", async () => {
  await assert.rejects(run({ placement: "everywhere" }), /none of auto/);
  await assert.rejects(run({ context: 1 << 30 }), /context of/);
  await assert.rejects(run({ ranks: 100 }), /ranks/);
  await assert.rejects(run({ activations: "int3" }), /int3/);
  await assert.rejects(run({ placement: "paged", residentBytes: 1 << 20 }), /allow more/);
  await assert.rejects(run({ placement: "sharded32", memories: 99 }), /memories/);
});

test("the command prints what `polychord` prints", () => {
  const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
  const node = (...args) => execFileSync(process.execPath, [cli, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  const json = JSON.parse(node("generate", "--json", "-n", "32", MODEL, PROMPT));
  assert.equal(json.hash.slice(0, HASH.length), HASH);
  assert.match(node("generate", "-n", "8", MODEL, PROMPT), /Paris/);
  assert.ok(JSON.parse(node("capabilities")).simd.ok);
  assert.throws(() => node("generate", "--rank", "2", MODEL), (error) => error.status === 2);
  assert.throws(() => node("generate", join(folder, "none")), (error) => error.status === 1 && /cannot be opened/.test(error.stderr));
});

test("a session generates one text at a time, of tokens that there are", async () => {
  const session = await startSession(MODEL, { context: 64 });
  const ids = session.encode(PROMPT);
  const first = session.generate(ids, { maxTokens: 4 });
  await first.next();
  await assert.rejects(session.generate(ids).next(), (error) => error.kind === "argument" && /generates already/.test(error.message));
  // The first one is left in the middle.
  await first.return();
  for (const id of [-1, 1.5, NaN, 49_152, "1"]) {
    await assert.rejects(session.generate([1, id]).next(), (error) => error.kind === "argument" && /not in the vocabulary/.test(error.message));
  }
  const long = session.generate(Array.from({ length: 65 }, () => 1));
  await assert.rejects(long.next(), /the text has 65 tokens, and the context 64: open the model with a longer context/);
  const text = [];
  for await (const { text: piece } of session.generate(ids, { maxTokens: 4 })) text.push(piece);
  assert.match(text.join(""), /Paris/);
  await session.close();
});

test("what is typed wrong is told in a line, without a stack", async () => {
  const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
  const run = (...args) => spawnSync(process.execPath, [cli, ...args], { encoding: "utf8" });
  const busy = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => busy.once("listening", resolve));
  for (const [args, status, words] of [
    [[], 2, /a command is needed/],
    [["chat"], 2, /there is no command 'chat'/],
    [["generate"], 2, /a model is needed/],
    [["generate", MODEL, "The", "capital"], 2, /'capital' is one word too many: put the prompt between quotes/],
    [["generate", "-n", "x", MODEL], 2, /--max-tokens is 'x'/],
    [["generate", "--placement", "everywhere", MODEL], 1, /none of auto/],
    [["generate", "--plan", join(folder, "none.json"), MODEL], 1, /none.json cannot be read/],
    [["generate", "--plan", MODEL, MODEL], 1, /is no plan/],
    [["generate", folder], 1, /no regular file/],
    [["serve", "--port", "70000"], 2, /0 to 65535/],
    [["serve", "--port", String(busy.address().port)], 1, /EADDRINUSE.*Take another one by --port/],
    [["serve", join(folder, "none.gguf")], 1, /cannot be opened/],
  ]) {
    const { status: found, stderr } = run(...args);
    assert.equal(found, status, `${args}: ${stderr}`);
    assert.match(stderr, words);
    assert.doesNotMatch(stderr, /\n {4}at /, `${args}`);
  }
  busy.close();
  assert.match(run("--version").stdout, /^polychord-web \d/);
  assert.match(run("--help").stdout, /^usage: /);
  // A reader that has had enough, as `head` has.
  const child = spawn(process.execPath, [cli, "generate", "-n", "24", MODEL, PROMPT]);
  let told = "";
  child.stderr.on("data", (bytes) => (told += bytes));
  child.stdout.once("data", () => child.stdout.destroy());
  const status = await new Promise((resolve) => child.on("close", resolve));
  assert.deepEqual([status, told.includes("    at ")], [0, false], told);
});

test("the package that npm makes has what `npx polychord-web` needs", () => {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const options = { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` } };
  const [{ filename, files }] = JSON.parse(execFileSync("npm", ["pack", "--json", "--pack-destination", folder], { ...options, cwd: root }));
  assert.ok(files.every(({ path }) => !/node_modules|tests|conformance|\.ts$/.test(path) || path.endsWith(".d.ts")), JSON.stringify(files));
  const user = join(folder, "user");
  mkdirSync(user);
  execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", "--prefix", user, join(folder, filename)], { ...options, cwd: user });
  const text = execFileSync("npx", ["--no-install", "polychord-web", "generate", "-n", "8", MODEL, PROMPT], { ...options, cwd: user });
  // A program in TypeScript that looks at all types, and knows neither Node's nor what is newer than it.
  writeFileSync(join(user, "program.mts"), `
    import { Session, UrlSource } from "@polychord/web";
    import { startSession, PolychordError, type Token } from "@polychord/web/node";
    import { Polychord, type Opened } from "@polychord/web/page";
    const session: Session = await startSession("model.gguf", { context: 256 });
    for await (const token of session.generate(session.encode("x"), { maxTokens: 3 })) { const its: Token = token; console.log(its.text); }
    const opened: Opened = await new Polychord().open({ kind: "url", url: "/model.gguf", keep: true }, { context: 2048 }, (phase, done, total) => console.log(phase, done, total));
    await UrlSource.open("x").catch((error: unknown) => error instanceof PolychordError && console.log(error.kind, opened.ranks));
  `);
  const types = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "--types", "", "program.mts"];
  execFileSync(join(root, "node_modules/.bin/tsc"), types, { ...options, cwd: user });
  assert.match(text, /Paris/);
  assert.throws(() => execFileSync("npx", ["--no-install", "polychord-web", "nonsense"], { ...options, cwd: user }), (error) => error.status === 2 && /usage/.test(error.stderr));
});
