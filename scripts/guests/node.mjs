// Runs a WASI command as scripts/test-guests runs it on engines: node.mjs GUEST ARGS...
import fs from 'node:fs';
import path from 'node:path';
import { WASI } from 'node:wasi';

const [guest, ...args] = process.argv.slice(2);
const wasi = new WASI({
    version: 'preview1',
    args: [path.basename(guest), ...args],
    env: { GREETING: 'hello' },
    preopens: { '/data': process.env.GUEST_DATA },
    returnOnExit: true,
});
// Of Polychord's own functions, the one that a guest here imports.
const imports = { ...wasi.getImportObject(), env: { memory64_is_enabled: () => 0 } };
const instance = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(guest)), imports);
// Only these: Node refuses a command that has _initialize as well.
const { memory, _start } = instance.exports;
process.exitCode = wasi.start({ exports: { memory, _start } });
