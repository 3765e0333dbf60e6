// The graphics processor, its buffers, and what it runs.

import { PolychordError } from "../errors.js";
import type { Source } from "../source.js";
import { PIECE } from "../source.js";
import { FORMATS, WIDE, lookup, product } from "./kernels.js";

/** What buffers are for, as WebGPU numbers it. */
export const USAGE = { MAP_READ: 0x01, COPY_SRC: 0x04, COPY_DST: 0x08, UNIFORM: 0x40, STORAGE: 0x80 } as const;
/** How buffers are mapped. */
const READ = 0x01;

/** One step of a computation: a kernel over buffers, or a copy between two. */
export type Step =
  | { kind: "run"; pipeline: GPUComputePipeline; bindings: GPUBindGroup; groups: (rows: number) => [number, number, number] }
  | { kind: "copy"; from: GPUBuffer; start: number; to: GPUBuffer; at: number; bytes: number };

/** A tensor in a file. */
export interface StoredTensor {
  readonly type: string;
  readonly start: number;
  readonly bytes: number;
  readonly cols: number;
  readonly rows: number;
}

/** Rows of a matrix that are in one buffer. */
interface Slice {
  readonly weights: GPUBuffer;
  readonly first: number;
  readonly rows: number;
}

/** A matrix whose bytes are on the device, as they are stored in the file. */
export interface Matrix {
  readonly type: string;
  readonly cols: number;
  readonly rows: number;
  readonly slices: readonly Slice[];
}

/** Why there is no WebGPU here; none if there is. */
export async function whyNoGpu(): Promise<string | undefined> {
  const gpu = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (!gpu) return "this browser or Node has no WebGPU";
  try {
    return (await gpu.requestAdapter()) ? undefined : "there is no adapter for WebGPU";
  } catch (error) {
    return `WebGPU is not available: ${String(error)}`;
  }
}

/** A graphics processor, and the memory that was taken on it. */
export class Device {
  /** Bytes of all buffers. */
  bytes = 0;
  private readonly pipelines = new Map<string, GPUComputePipeline>();
  private lost: string | undefined;

  private constructor(
    readonly gpu: GPUDevice,
    /** What it is, as it says itself. */
    readonly name: string,
  ) {
    void gpu.lost.then(({ message, reason }) => (this.lost = message || reason));
  }

  static async open(): Promise<Device> {
    const why = await whyNoGpu();
    if (why) throw new PolychordError("unsupported", why);
    const adapter = (await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }))!;
    const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
    const gpu = await adapter.requestDevice({ requiredLimits: { maxStorageBufferBindingSize, maxBufferSize } });
    const { vendor, architecture, description } = adapter.info;
    return new Device(gpu, [vendor, architecture, description].filter(Boolean).join(" ") || "unnamed adapter");
  }

  /** A buffer of zeros. */
  buffer(bytes: number, usage: number = USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST): GPUBuffer {
    this.bytes += bytes;
    return this.gpu.createBuffer({ size: Math.ceil(bytes / 4) * 4, usage });
  }

  /** A buffer with these numbers. */
  filled(data: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>, usage: number = USAGE.STORAGE | USAGE.COPY_DST): GPUBuffer {
    const buffer = this.buffer(data.byteLength, usage);
    this.gpu.queue.writeBuffer(buffer, 0, data);
    return buffer;
  }

  /** Brings a matrix in, straight from its source, some rows at a time. */
  async matrix(source: Source, tensor: StoredTensor, took: (bytes: Uint8Array) => void = () => undefined): Promise<Matrix> {
    const { type, cols, rows, start } = tensor;
    const format = FORMATS[type];
    if (!format || cols % (32 * format.groups) !== 0) {
      const known = Object.keys(FORMATS).join(", ");
      throw new PolychordError("unsupported", `WebGPU computes here with weights of ${known}, and not with ${cols} columns of ${type}: use the guest`);
    }
    const rowBytes = (cols / (32 * format.groups)) * format.bytes;
    const { maxStorageBufferBindingSize, maxBufferSize } = this.gpu.limits;
    const most = Math.floor((Math.min(maxStorageBufferBindingSize, maxBufferSize) - 4) / rowBytes);
    const slices: Slice[] = [];
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      // One word more: values are read by words.
      const weights = this.buffer(count * rowBytes + 4);
      slices.push({ weights, first, rows: count });
      const bytes = count * rowBytes;
      for (let at = 0; at < bytes; at += PIECE) {
        const part = new Uint8Array(Math.min(PIECE, bytes - at));
        await source.read(start + first * rowBytes + at, part);
        took(part);
        // Whole words only; the last ones may be less.
        const padded = part.byteLength % 4 === 0 ? part : grown(part);
        this.gpu.queue.writeBuffer(weights, at, padded);
      }
    }
    return { type, cols, rows, slices };
  }

  /** The steps that multiply a matrix by columns: `y[n] = matrix x[n]`. */
  multiply(matrix: Matrix, x: GPUBuffer, y: GPUBuffer): Step[] {
    const format = FORMATS[matrix.type]!;
    const pipeline = this.pipeline(product(format));
    return matrix.slices.map(({ weights, first, rows }) => {
      const shape = this.filled(Uint32Array.of(matrix.cols, rows, first, matrix.rows), USAGE.UNIFORM | USAGE.COPY_DST);
      const groups = (columns: number): [number, number, number] => [Math.min(rows, WIDE), Math.ceil(rows / WIDE), columns];
      return this.step(pipeline, [weights, x, y, shape], groups);
    });
  }

  /** The steps that look rows of a matrix up: `y[n] = matrix[tokens[n]]`. */
  lookup(matrix: Matrix, tokens: GPUBuffer, y: GPUBuffer): Step[] {
    const pipeline = this.pipeline(lookup(FORMATS[matrix.type]!));
    return matrix.slices.map(({ weights, first, rows }) => {
      const shape = this.filled(Uint32Array.of(matrix.cols, rows, first, matrix.cols), USAGE.UNIFORM | USAGE.COPY_DST);
      return this.step(pipeline, [weights, tokens, y, shape], (columns) => [columns, 1, 1]);
    });
  }

  /** A kernel, compiled once. */
  pipeline(code: string): GPUComputePipeline {
    let pipeline = this.pipelines.get(code);
    if (!pipeline) {
      const module = this.gpu.createShaderModule({ code });
      pipeline = this.gpu.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
      this.pipelines.set(code, pipeline);
    }
    return pipeline;
  }

  step(pipeline: GPUComputePipeline, buffers: readonly GPUBuffer[], groups: (rows: number) => [number, number, number]): Step {
    const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
    return { kind: "run", pipeline, bindings: this.gpu.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }), groups };
  }

  /** Lets all steps run over some rows, one after the other; with `read`, copies a buffer to one that can be read. */
  async run(steps: readonly Step[], rows: number, read?: { from: GPUBuffer; to: GPUBuffer }): Promise<ArrayBuffer | undefined> {
    this.gpu.pushErrorScope("validation");
    this.gpu.pushErrorScope("out-of-memory");
    const encoder = this.gpu.createCommandEncoder();
    let pass: GPUComputePassEncoder | undefined;
    for (const step of steps) {
      if (step.kind === "copy") {
        pass?.end();
        pass = undefined;
        encoder.copyBufferToBuffer(step.from, step.start, step.to, step.at, step.bytes);
      } else {
        pass ??= encoder.beginComputePass();
        pass.setPipeline(step.pipeline);
        pass.setBindGroup(0, step.bindings);
        pass.dispatchWorkgroups(...step.groups(rows));
      }
    }
    pass?.end();
    if (read) encoder.copyBufferToBuffer(read.from, 0, read.to, 0, read.to.size);
    this.gpu.queue.submit([encoder.finish()]);
    for (const scope of [this.gpu.popErrorScope(), this.gpu.popErrorScope()]) {
      const error = await scope;
      if (error) throw new PolychordError("guest", `the graphics processor (${this.name}) refuses: ${error.message}`);
    }
    if (!read) {
      await this.gpu.queue.onSubmittedWorkDone();
    } else {
      await read.to.mapAsync(READ);
    }
    if (this.lost !== undefined) throw new PolychordError("guest", `the graphics processor (${this.name}) was lost: ${this.lost}. Open the model again.`);
    if (!read) return undefined;
    const copy = read.to.getMappedRange().slice(0);
    read.to.unmap();
    return copy;
  }

  close(): void {
    this.gpu.destroy();
  }
}

function grown(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const longer = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  longer.set(bytes);
  return longer;
}
