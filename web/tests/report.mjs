// The conformance suite on browsers and Node as Markdown, from what its runs have recorded: without times, so
// that it can be committed and compared.
//
//   node web/tests/report.mjs RECORDS > docs/browser-conformance.md

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
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
  const parts = [["passed", ""], ["refused", " refused"], ["known", " known"], ["failed", " FAILED"]].map(([kind, word]) => [count(kind), word]).filter(([number, word]) => number > 0 || (word === "" && trials.length > 0));
  if (missing > 0) parts.push([missing, " not run to the end"]);
  return parts.map(([number, word]) => `${number}${word || " passed"}`).join(", ") || "-";
};

out.push("# Conformance of browsers and Node", "");
out.push(`Version ${runs[0]?.suite} of the suite, whose cases are those of [conformance.md](conformance.md): the same program runs them, with an engine that is reached through a page or Node (\`scripts/test-web conformance\` writes this page). *Refused* cases need what is not claimed there, and check that asking for it is refused. *Known* cases fail for a reason that is given below, and have to.`, "");
table(["engine", "version", "result"], ...runs.map((run) => [run.engine, run.version.split(".")[0], tally(run.trials, run.missing.length)]));
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
process.stdout.write(`${out.join("\n")}\n`);
if (runs.length === 0 || runs.some((run) => !run.over || run.missing.length > 0 || run.trials.some((it) => it.failure))) process.exitCode = 1;
