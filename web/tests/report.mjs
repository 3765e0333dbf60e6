// The conformance suite on browsers and Node as Markdown, from what its runs have recorded: without times, so
// that it can be committed and compared; and docs/browser.md, with a table of what these engines can do.
//
//   node web/tests/report.mjs RECORDS FOLDER           writes both pages
//   node web/tests/report.mjs RECORDS --check ENGINE   compares what the committed page says of an engine

import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const [folder, to, only] = process.argv.slice(2);
const DOCS = fileURLToPath(new URL("../../docs/", import.meta.url));
const NAMES = { node: "Node", chromium: "Chromium", firefox: "Firefox" };
const runs = readdirSync(folder).filter((name) => name.endsWith(".jsonl")).sort().map((name) => {
  const lines = readFileSync(join(folder, name), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  const start = lines.find((line) => line.start).start;
  const trials = lines.flatMap((line) => line.trial ?? []);
  const ended = new Set(trials.map((it) => it.name));
  return { ...start, all: start.trials, trials, missing: start.trials.filter((name) => !ended.has(name)), over: lines.some((line) => line.end) };
});
const kindOf = ({ mode, failure }) => (failure ? "failed" : mode === "plain" ? "passed" : mode.refused === undefined ? "known" : "refused");
const groupOf = (name) => name.split("/")[0];
const groups = [...new Set(runs.flatMap((run) => run.all.map(groupOf)))];
const out = [];
const table = (...rows) => rows.forEach((row, index) => {
  out.push(`| ${row.join(" | ")} |`);
  if (index === 0) out.push(`|${" --- |".repeat(row.length)}`);
});
const tally = (trials, missing) => {
  const count = (kind) => trials.filter((it) => kindOf(it) === kind).length;
  const parts = [["passed", ""], ["refused", " refused"], ["known", " known"], ["failed", " FAILED"]].map(([kind, word]) => [count(kind), word]).filter(([number]) => number > 0);
  if (missing > 0) parts.push([missing, " not run to the end"]);
  return parts.map(([number, word]) => `${number}${word || " passed"}`).join(", ") || "-";
};

out.push("# Conformance of browsers and Node", "", "<!-- Made by scripts/test-web conformance: change web/tests/report.mjs, not this. -->", "");
out.push(`Version ${runs[0]?.suite} of the suite, whose cases are those of [conformance.md](conformance.md): the same program runs them, with an engine that is reached through a page or Node ([browser.md](browser.md)). *Refused* cases need what is not claimed there, and check that asking for it is refused. *Known* cases fail for a reason that is given below, and have to.`, "");
table(["engine", "version", "result"], ...runs.map((run) => [run.engine, run.version.split(".")[0], tally(run.trials, run.missing.length)]));
const everything = [...new Set(runs.flatMap((run) => run.all))];
for (const run of runs) {
  const left = everything.filter((name) => !run.all.includes(name));
  if (left.length > 0) out.push("", `Not run in ${run.engine}, where each call is a message to another process: ${left.join(", ")}.`);
}
out.push("", "## Groups", "");
table(["group", ...runs.map((run) => run.engine)], ...groups.map((group) => [group, ...runs.map((run) => tally(run.trials.filter((it) => groupOf(it.name) === group), run.missing.filter((name) => groupOf(name) === group).length))]));
for (const run of runs) {
  out.push("", `## ${run.engine}`, "");
  const refused = new Map();
  for (const trial of run.trials) {
    const kind = kindOf(trial);
    if (kind === "failed") out.push(`- **${trial.name} failed**: ${trial.failure.replaceAll("\n", " ")}`);
    if (kind === "known") out.push(`- ${trial.name} fails, as is known: ${trial.mode.expected_failure.reason}`);
    if (kind === "refused") refused.set(trial.mode.refused, [...(refused.get(trial.mode.refused) ?? []), trial.name]);
  }
  for (const name of run.missing) out.push(`- **${name} did not end**`);
  for (const [why, names] of refused) out.push(`- refused, ${why}: ${names.join(", ")}`);
}
if (to === "--check") check();
else {
  writeFileSync(join(to, "browser-conformance.md"), `${out.join("\n")}\n`);
  writeFileSync(join(to, "browser.md"), withTable(readFileSync(join(DOCS, "browser.md"), "utf8")));
}
if (runs.length === 0 || runs.some((run) => !run.over || run.missing.length > 0 || run.trials.some((it) => it.failure))) process.exitCode = 1;

/** Fails if the committed page says something else of an engine. */
function check() {
  const section = (text) => text.split(/^## /m).find((it) => it.startsWith(`${only}\n`))?.trim();
  const committed = section(readFileSync(join(DOCS, "browser-conformance.md"), "utf8"));
  const found = section(out.join("\n"));
  if (committed === found) return;
  console.error(`docs/browser-conformance.md is old: scripts/test-web conformance makes it anew. It is not:\n${found}`);
  process.exitCode = 1;
}

/** docs/browser.md with the table of what these engines can do. */
function withTable(text) {
  const all = runs.map(({ engine, version }) => {
    const can = JSON.parse(readFileSync(join(folder, `${engine}.capabilities.json`), "utf8"));
    return { title: `${NAMES[engine]} ${version.split(".")[0]}`, ...can };
  }).sort((a, b) => a.title.localeCompare(b.title));
  const yes = ({ ok }) => (ok ? "yes" : "no");
  const size = (bytes) => (bytes === 0 ? "none" : `${bytes / 2 ** 30} GiB`);
  const rows = [
    ["SIMD", (can) => yes(can.simd)],
    ["relaxed SIMD, with the right result", (can) => yes(can.relaxedSimd)],
    ["several memories", (can) => yes(can.multiMemory)],
    ["64-bit memories", (can) => yes(can.memory64)],
    ["largest 32-bit memory", (can) => size(can.memory32Bytes)],
    ["largest 64-bit memory", (can) => size(can.memory64Bytes)],
    ["workers that share memory, for ranks", (can) => yes(can.threads)],
    ["storage for models", (can) => (can.opfs.ok ? "yes" : "files")],
  ];
  const lines = [["", ...all.map((can) => can.title)], ["---", ...all.map(() => "---")], ...rows.map(([name, show]) => [name, ...all.map(show)])];
  const [begin, end] = ["<!-- This table is made by scripts/test-web conformance. -->", "<!-- The table ends here. -->"];
  const [before, after] = [text.indexOf(begin), text.indexOf(end)];
  if (before < 0 || after < before) throw new Error("docs/browser.md has no place for the table");
  const made = lines.map((line) => `| ${line.join(" | ")} |\n`.replace("|  |", "| |")).join("");
  return `${text.slice(0, before)}${begin}\n\n${made}\n${text.slice(after)}`;
}
