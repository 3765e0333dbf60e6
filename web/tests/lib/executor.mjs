// Does with the WebAssembly engine that runs this what the conformance suite says (web/conformance):
// compiles, makes guests, calls them. Runs in Node and in workers of browsers.

const PAGE = 65_536;

/** The features that the suite asks for. */
export const features = (can) => ({ multiMemory: can.multiMemory.ok, memory64: can.memory64.ok, relaxedSimd: can.relaxedSimd.ok });

/** Serves commands until there are none. `exchange` hands over a frame and waits for the next one. */
export function serve(exchange, hello) {
  const modules = new Map();
  const guests = new Map();
  /** Ends the calls of a guest whose host does not want it to go on. */
  class Stopped extends Error {}

  const say = (answer, guest, failed) => {
    const [pages, bytes] = guest ? guest.changed() : [{ lengths: [], changed: [] }, []];
    return exchange(frame({ ...answer, pages }, bytes), failed);
  };

  const run = (command, bytes) => {
    switch (command.op) {
      case "compile":
        modules.set(command.module, new WebAssembly.Module(bytes));
        return [[]];
      case "start": {
        const guest = new Guest(command, modules.get(command.module), host);
        guests.set(command.guest, guest);
        return [[], guest];
      }
      case "invoke": {
        const guest = guests.get(command.guest);
        const result = guest.exports[command.export](...command.args.map(toJs));
        const values = command.results.length === 0 ? [] : command.results.length === 1 ? [result] : [...result];
        return [values.map((value, index) => toText(command.results[index], value)), guest];
      }
      case "grow": {
        const guest = guests.get(command.guest);
        const memory = guest.memories[command.memory];
        return [[toText("i64", BigInt(memory.grow(command.by)))], guest];
      }
      case "global": {
        const guest = guests.get(command.guest);
        const global = command.at.export === undefined ? guest.imported[command.at.import] : guest.exports[command.at.export];
        if (command.value !== null) global.value = toJs(command.value);
        return [command.value === null ? [toText(guest.typeOf(command.at), global.value)] : [], guest];
      }
      case "dropGuest":
        guests.delete(command.guest);
        return [[]];
      case "dropModule":
        modules.delete(command.module);
        return [[]];
      default:
        throw new Error(`there is no command ${command.op}`);
    }
  };

  /** Does what comes until the function of the host that `guest` has called is over. */
  const converse = (first, caller) => {
    for (let next = first; next; ) {
      const [command, bytes] = next;
      const about = guests.get(command.guest);
      about?.take(command.pages, bytes);
      if (caller && command.guest === caller.id && command.op === "return") return command.values;
      if (caller && command.guest === caller.id && command.op === "stop") throw new Stopped(command.why);
      let answer;
      let guest = about;
      try {
        const [values, made] = run(command, bytes);
        guest = made ?? guest;
        answer = { is: "done", values };
      } catch (error) {
        answer = { is: "failed", ...explain(error, Stopped, command.op) };
      }
      next = say(answer, guests.has(command.guest) ? guest : undefined);
    }
    return [];
  };

  const host = (guest, index, types) => (...args) => {
    const values = converse(say({ is: "call", import: index, args: args.map((arg, at) => toText(types.params[at], arg)) }, guest), guest);
    const results = values.map(toJs);
    return results.length > 1 ? results : results[0];
  };

  converse(say({ is: "hello", ...hello }));
}

/** A guest, and its memories as the other side knows them. */
class Guest {
  constructor(command, module, host) {
    this.id = command.guest;
    const env = {};
    const made = new Map();
    this.imported = command.imports.map((it, index) => {
      // One thing that is imported twice is the same.
      const key = `${it.module}\0${it.name}`;
      if (!made.has(key)) made.set(key, it.kind === "function" ? host(this, index, it) : it.kind === "memory" ? memoryOf(it) : globalOf(it));
      (env[it.module] ??= {})[it.name] = made.get(key);
      return made.get(key);
    });
    this.types = command.imports;
    const { exports } = new WebAssembly.Instance(module, env);
    this.exports = exports;
    const kinds = WebAssembly.Module.exports(module);
    this.globals = new Map(kinds.filter((it) => it.kind === "global").map((it) => [it.name, it.type?.value]));
    const found = command.memories.map((it) => (it.export === undefined ? this.imported[it.import] : exports[it.export]));
    this.memories = found.map((memory) => ({
      get bytes() {
        return new Uint8Array(memory.buffer);
      },
      grow: (pages) => growBy(memory, pages),
      there: new Uint8Array(0),
    }));
  }

  /** The type of a global, which engines do not all tell. */
  typeOf({ import: index, export: name }) {
    if (index !== undefined) return this.types[index].ty;
    const value = this.exports[name].value;
    return this.globals.get(name) ?? (typeof value === "bigint" ? "i64" : guessed(this.exports[name]));
  }

  /** The pages that have changed here. */
  changed() {
    const [lengths, changed, bytes] = [[], [], []];
    this.memories.forEach((memory, index) => {
      const here = memory.bytes;
      lengths.push(here.byteLength);
      if (memory.there.byteLength < here.byteLength) {
        const longer = new Uint8Array(here.byteLength);
        longer.set(memory.there);
        memory.there = longer;
      }
      for (let at = 0; at < here.byteLength; at += PAGE) {
        if (same(here, memory.there, at)) continue;
        const page = here.slice(at, at + PAGE);
        memory.there.set(page, at);
        changed.push([index, at / PAGE]);
        bytes.push(page);
      }
    });
    return [{ lengths, changed }, bytes];
  }

  /** Takes the pages that have changed there. */
  take({ changed }, bytes) {
    changed.forEach(([index, page], at) => {
      const from = bytes.subarray(at * PAGE, (at + 1) * PAGE);
      this.memories[index].bytes.set(from, page * PAGE);
      this.memories[index].there.set(from, page * PAGE);
    });
  }
}

function same(a, b, at) {
  const [left, right] = [a, b].map((it) => new BigUint64Array(it.buffer, it.byteOffset + at, PAGE / 8));
  for (let index = 0; index < PAGE / 8; index += 1) if (left[index] !== right[index]) return false;
  return true;
}

function memoryOf({ is64, min, max }) {
  const number = (pages) => (is64 ? BigInt(pages) : pages);
  return new WebAssembly.Memory({ address: is64 ? "i64" : "i32", initial: number(min), ...(max === null ? {} : { maximum: number(max) }) });
}

function growBy(memory, pages) {
  try {
    return memory.grow(pages);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return memory.grow(BigInt(pages));
  }
}

function globalOf({ ty, mutable, value }) {
  return new WebAssembly.Global({ value: ty, mutable }, toJs(value));
}

/** Whether a number of 32 bits is an i32: only that takes values as whole numbers. */
function guessed(global) {
  const value = global.value;
  try {
    global.value = 0.1;
    const stored = global.value;
    global.value = value;
    return stored === 0 ? "i32" : stored === 0.1 ? "f64" : "f32";
  } catch {
    return Number.isInteger(value) ? "i32" : Math.fround(value) === value ? "f32" : "f64";
  }
}

const view = new DataView(new ArrayBuffer(8));

/** A value as JavaScript has it: of its type, and its bits. */
function toJs(text) {
  const [type, bits] = text.split(":");
  switch (type) {
    case "i32":
      return Number(bits) | 0;
    case "i64":
      return BigInt.asIntN(64, BigInt(bits));
    case "f32":
      view.setUint32(0, Number(bits));
      return view.getFloat32(0);
    case "f64":
      view.setBigUint64(0, BigInt(bits));
      return view.getFloat64(0);
    default:
      throw new TypeError(`JavaScript has no values of type ${type}`);
  }
}

function toText(type, value) {
  switch (type) {
    case "i32":
      return `i32:${value >>> 0}`;
    case "i64":
      return `i64:${BigInt.asUintN(64, value)}`;
    case "f32":
      view.setFloat32(0, value);
      return `f32:${view.getUint32(0)}`;
    case "f64":
      view.setFloat64(0, value);
      return `f64:${view.getBigUint64(0)}`;
    default:
      throw new TypeError(`JavaScript has no values of type ${type}`);
  }
}

/** Traps by what engines say of them: V8, then SpiderMonkey. */
const TRAPS = [
  ["unreachable", /^unreachable/],
  ["memory", /memory access out of bounds|^index out of bounds|data segment.*out of bounds|out of bounds.*data|memory.*out.of.bounds/i],
  ["table", /table.*out of (bounds|range)|element segment.*out of bounds|elem.*out of bounds/i],
  ["zero", /divide by zero|remainder by zero/],
  ["overflow", /divide result unrepresentable|^integer overflow/],
  ["conversion", /float unrepresentable|invalid conversion to integer/],
  ["null", /indirect call to null|null function|dereferencing a null pointer/],
  ["signature", /indirect call signature mismatch/],
];

function explain(error, Stopped, operation) {
  const message = String(error?.message ?? error);
  if (error instanceof Stopped) return { kind: null, message };
  if (operation === "invoke" && (/call stack|too much recursion/.test(message) || error instanceof RangeError)) return { kind: "stack", message };
  if (!(error instanceof WebAssembly.RuntimeError)) return { kind: null, message: `${error?.name}: ${message}` };
  return { kind: TRAPS.find(([, says]) => says.test(message))?.[0] ?? "other", message };
}

/** A message and bytes as the other side reads them, after their length. */
function frame(message, parts) {
  const json = new TextEncoder().encode(JSON.stringify(message));
  const length = 4 + json.byteLength + parts.reduce((sum, part) => sum + part.byteLength, 0);
  const bytes = new Uint8Array(4 + length);
  const numbers = new DataView(bytes.buffer);
  numbers.setUint32(0, length, true);
  numbers.setUint32(4, json.byteLength, true);
  bytes.set(json, 8);
  let at = 8 + json.byteLength;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

/** A message and its bytes from a frame without its length. */
export function parse(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  return [JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))), bytes.subarray(4 + length)];
}
