// Writes dist/files.js: what sw.js keeps for visits without a network, and a version of all of it.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL(".", import.meta.url)));
// What only Node uses is no part of a page.
const node = new Set(["cli", "node", "node-rank", "serve", "files"].map((name) => `dist/${name}.js`));
const all = ["demo", "dist"].flatMap((folder) => readdirSync(folder, { recursive: true }).map((file) => join(folder, file))).filter((file) => /\.(html|css|svg|js|wasm)$/.test(file) && !node.has(file)).sort();
const hash = createHash("sha256");
for (const file of all) hash.update(file).update("\0").update(readFileSync(file));
const list = { version: hash.digest("hex").slice(0, 16), files: all };
writeFileSync("dist/files.js", `self.POLYCHORD_FILES = ${JSON.stringify(list)};\n`);
