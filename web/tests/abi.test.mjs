// What imports do with whatever a guest passes: the cases of conformance/src/cases/abi/codes.rs, for a
// host whose memories are all in the guest. Run with `node --test`.

import assert from "node:assert/strict";
import test from "node:test";

import { capabilities } from "../dist/index.js";
import { layerImports } from "../dist/imports.js";
import { Layers } from "../dist/layers.js";
import { LinearMemory, PAGE, Space } from "../dist/memories.js";
import { BytesSource } from "../dist/source.js";
import { probe } from "./lib/asm.mjs";

const [NOT_ENABLED, NOT_FOUND, TOO_SMALL, RANGE, READ_FAILED, OVERFLOW, BOUNDS] = [-1, -2, -3, -4, -5, -6, -7];
const IMPORTS = {
  memory64_is_enabled: [[], "i32"],
  memory64_load_layer: [["i32", "addr", "addr"], "i32"],
  memory64_read: [["i64", "addr", "addr"], "i32"],
  memory64_write: [["i64", "addr", "addr"], "i32"],
  memory64_map_layer: [["i32"], "i64"],
  memory64_layer_bytes: [["i32"], "i64"],
  memory64_prefetch: [["i32"], "i32"],
  memory64_release: [["i32"], "i32"],
  memory64_stats: [[], "i64"],
  memory64_stats_into: [["addr", "addr"], "i32"],
  all_gather: [["addr", "addr", "addr"], "i32"],
};
const ON_LAYERS = ["memory64_map_layer", "memory64_layer_bytes", "memory64_prefetch", "memory64_release"];
const [OWN, MORE] = [2, 3];
const TOTAL = MORE * PAGE;
const GUEST = (OWN + MORE) * PAGE;
const MINUS_ONE = (1n << 64n) - 1n;
const LAYER = 5;

const source = new BytesSource(Uint8Array.from({ length: 6000 }, (_, index) => (index * 7 + 3) & 0xff));

/** A guest, and what stands behind it. */
function start(is64, withMemory = true) {
  let host;
  const module = new WebAssembly.Module(probe(IMPORTS, OWN, is64));
  const { exports } = new WebAssembly.Instance(module, { env: layerImports(() => host) });
  const space = new Space([new LinearMemory(exports.memory, is64)]);
  host = { layers: new Layers(space, source) };
  if (withMemory) {
    const region = space.reserve(TOTAL);
    host.layers.register({ id: LAYER, name: "a layer", start: 40, bytes: 5000, offset: PAGE + 40 }, region);
    host.layers.register({ id: 8, name: "behind the end", start: 5000, bytes: 5000, offset: 2 * PAGE }, region);
  }
  new Uint8Array(exports.memory.buffer).forEach((_, index, all) => (all[index] = index * 31 + 7));
  const call = (name, ...args) => {
    const types = IMPORTS[name][0];
    const values = args.map((arg, index) => {
      const wide = types[index] === "i64" || (types[index] === "addr" && is64);
      return wide ? BigInt.asIntN(64, BigInt(arg)) : Number(BigInt.asIntN(32, BigInt(arg)));
    });
    return Number(exports[name](...values));
  };
  const bytes = () => Buffer.from(new Uint8Array(exports.memory.buffer).slice());
  const refuses = (name, args, code) => {
    const before = [bytes(), host.layers.counters.errors];
    assert.equal(call(name, ...args), code, `${name}(${args})`);
    assert.equal(host.layers.counters.errors, before[1] + 1n, `${name}(${args}) counts as one error`);
    assert.ok(bytes().equals(before[0]), `${name}(${args}) changed memory`);
  };
  return { call, refuses, host, memory: exports.memory };
}

const can = await capabilities();
for (const is64 of [false, true]) {
  const options = is64 && !can.memory64.ok ? { skip: can.memory64.why } : {};
  const [min, max] = is64 ? [1n << 63n, MINUS_ONE] : [1n << 31n, (1n << 32n) - 1n];
  const width = is64 ? "wasm64" : "wasm32";

  test(`${width}: without a memory every import that needs one says so`, options, () => {
    const { call, refuses } = start(is64, false);
    assert.equal(call("memory64_is_enabled"), 0);
    for (const name of ["memory64_load_layer", "memory64_read", "memory64_write"]) {
      for (const args of [[0, 16, 8], [0, 0, 8], [7, MINUS_ONE, MINUS_ONE], [MINUS_ONE, 16, 8]]) refuses(name, args, NOT_ENABLED);
    }
    for (const name of ON_LAYERS) for (const layer of [0, 7, -1]) refuses(name, [layer], NOT_ENABLED);
  });

  test(`${width}: pointers are refused to the last byte, each with its code`, options, () => {
    const { refuses } = start(is64);
    const bad = [
      [0, 8, BOUNDS], [0, 1, BOUNDS], [0, max, BOUNDS], [GUEST - 7, 8, BOUNDS], [GUEST, 1, BOUNDS], [GUEST + 1, 0, BOUNDS],
      [16, GUEST - 15, BOUNDS], [16, min, BOUNDS], [max, 1, BOUNDS], [max - 7n, 8, BOUNDS], [1, max, BOUNDS], [max, 0, BOUNDS],
      [max, 2, OVERFLOW], [max - 6n, 8, OVERFLOW], [2, max, OVERFLOW], [16, MINUS_ONE, OVERFLOW], [min, min + 1n, OVERFLOW],
      [max, max, OVERFLOW],
    ];
    for (const [ptr, len, code] of bad) {
      for (const name of ["memory64_read", "memory64_write"]) {
        refuses(name, [0, ptr, len], code);
        refuses(name, [MINUS_ONE, ptr, len], code);
      }
      for (const layer of [LAYER, 99]) refuses("memory64_load_layer", [layer, ptr, len], code);
      refuses("memory64_stats_into", [ptr, len], code);
      refuses("all_gather", [ptr, len, len], code);
      refuses("all_gather", [ptr, 0, len], code);
    }
  });

  test(`${width}: transfers agree with plain arithmetic at all extremes`, options, () => {
    const { call, refuses } = start(is64);
    const space = is64 ? 1n << 64n : 1n << 32n;
    const expected = (offset, ptr, len) => {
      if (ptr + len > space) return OVERFLOW;
      if (ptr + len > BigInt(GUEST) || (ptr === 0n && len > 0n)) return BOUNDS;
      return offset + len > BigInt(TOTAL) ? RANGE : Number(len);
    };
    for (const offset of [0, 1, TOTAL - 8, TOTAL - 1, TOTAL, TOTAL + 1, 1n << 32n, 1n << 63n, MINUS_ONE].map(BigInt)) {
      for (const ptr of [0, 1, GUEST - 8, GUEST - 1, GUEST, GUEST + 1, min, max - 7n, max].map(BigInt)) {
        for (const len of [0, 1, 8, 9, TOTAL, TOTAL + 1, GUEST - 1, min - 1n, min, max].map(BigInt)) {
          const code = expected(offset, ptr, len);
          if (code < 0) refuses("memory64_read", [offset, ptr, len], code);
          else assert.equal(call("memory64_read", offset, ptr, len), code);
          if (code < 0) refuses("memory64_write", [offset, ptr, len], code);
          else assert.equal(call("memory64_write", offset, ptr, len), code);
        }
      }
    }
  });

  test(`${width}: layers that are not there, or too long, or cut off`, options, () => {
    const { call, refuses, host } = start(is64);
    for (const layer of [0, 1, LAYER + 1, 0x7fff_ffff, 1n << 31n, MINUS_ONE]) {
      for (const name of ON_LAYERS) refuses(name, [layer], NOT_FOUND);
      for (const most of [0, 8, 8192]) refuses("memory64_load_layer", [layer, 16, most], NOT_FOUND);
    }
    for (const loaded of [false, true]) {
      if (loaded) host.layers.loadSync(LAYER);
      for (const [ptr, most] of [[16, 4999], [16, 0], [0, 0], [GUEST, 0]]) {
        refuses("memory64_load_layer", [LAYER, ptr, most], TOO_SMALL);
      }
      assert.equal(call("memory64_load_layer", LAYER, 16, 5000), 5000);
    }
    for (const [ptr, len] of [[16, 63], [16, 0], [0, 0]]) refuses("memory64_stats_into", [ptr, len], TOO_SMALL);
    refuses("memory64_load_layer", [8, 16, 4999], TOO_SMALL);
    assert.equal(call("memory64_load_layer", 8, 16, 5000), READ_FAILED);
    assert.equal(call("memory64_map_layer", 8), READ_FAILED);
    assert.equal(host.layers.isLoaded(8), false);
  });

  test(`${width}: what is asked for is there`, options, () => {
    const { call, memory } = start(is64);
    const at = call("memory64_map_layer", LAYER);
    assert.equal(at, (OWN + 1) * PAGE + 40);
    assert.equal(call("memory64_layer_bytes", LAYER), 5000);
    const expected = new Uint8Array(5000);
    source.readSync(40, expected);
    assert.deepEqual(new Uint8Array(memory.buffer, at, 5000), expected);
    // The rest of its pages is zero.
    assert.deepEqual(new Uint8Array(memory.buffer, at - 40, 40), new Uint8Array(40));
    assert.deepEqual(new Uint8Array(memory.buffer, at + 5000, PAGE - 5040), new Uint8Array(PAGE - 5040));
    assert.equal(call("memory64_read", PAGE + 40, 16, 5000), 5000);
    assert.deepEqual(new Uint8Array(memory.buffer, 16, 5000), expected);
    assert.equal(call("memory64_stats_into", 16, 64), 64);
    const stats = new DataView(memory.buffer, 16, 64);
    assert.deepEqual([0, 2, 4, 6, 7].map((word) => Number(stats.getBigUint64(word * 8, true))), [1, 5000, 1, 5000, 0]);
    assert.equal(call("memory64_stats"), 2 ** 32 + 1);
    assert.equal(call("all_gather", 16, 64, 64), 0);
    assert.equal(call("all_gather", 16, 63, 64), RANGE);
    assert.equal(call("memory64_prefetch", LAYER), 0);
    assert.equal(call("memory64_release", LAYER), 0);
  });
}
