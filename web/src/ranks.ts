// Ranks that are workers: they wait for each other and exchange bytes in memory that they share.

import { PolychordError, Refusal, code } from "./errors.js";
import { checkChunk } from "./imports.js";

/** Most bytes that a rank publishes at once; longer chunks take several turns. */
const PIECE = 128 << 10;
/** Words before the slots: the turn, how many have come to it, who failed, and the length of why. */
const TURN = 0, ARRIVED = 1, FAILED = 2, REASON = 3, WORDS = 16;
/** Bytes for why a rank failed. */
const REASON_BYTES = 1024;
/** Words of a slot before its bytes: what its rank is about to do. */
const INTENT_WORDS = 4;
const SLOT = INTENT_WORDS * 4 + PIECE;
/** How often a rank looks before it sleeps. */
const SPINS = 4096;

/** One rank of several. */
export class RankMember {
  private readonly words: Int32Array;
  private readonly reason: Uint8Array;

  private constructor(
    readonly index: number,
    readonly count: number,
    private readonly shared: SharedArrayBuffer,
  ) {
    this.words = new Int32Array(shared, 0, WORDS);
    this.reason = new Uint8Array(shared, WORDS * 4, REASON_BYTES);
  }

  /** Memory for a group of ranks. */
  static group(count: number): SharedArrayBuffer {
    if (!Number.isInteger(count) || count < 1 || count > 64) {
      throw new PolychordError("ranks", `${count} ranks were asked for, and there can be 1 to 64`);
    }
    return new SharedArrayBuffer(WORDS * 4 + REASON_BYTES + count * 2 * SLOT);
  }

  /** A rank of a group. */
  static join(shared: SharedArrayBuffer, index: number, count: number): RankMember {
    return new RankMember(index, count, shared);
  }

  /** Exchanges the parts of a buffer; stops all ranks if the request is refused. */
  allGather(buffer: () => Uint8Array, chunk: bigint): void {
    this.orStop(() => {
      const bytes = buffer();
      checkChunk(chunk, BigInt(bytes.byteLength), this.count);
      const size = Number(chunk);
      const total = bytes.byteLength;
      let done = 0;
      do {
        const part = (rank: number) => piece(rank, size, done, total);
        this.turn([size % 2 ** 32, Math.floor(size / 2 ** 32) + 1, total % 2 ** 32, done], bytes.subarray(...part(this.index)), (rank, slot) => {
          const [from, to] = part(rank);
          bytes.set(slot.subarray(0, to - from), from);
        });
        done += PIECE;
      } while (done < size);
    });
  }

  /** Waits until all ranks have come here: the end of what they compute together. */
  finish(): void {
    this.orStop(() => this.turn([0, 0, 0, 0], new Uint8Array(), () => undefined));
  }

  /** Stops all ranks, unless one has failed before. */
  stop(reason: string): void {
    if (Atomics.compareExchange(this.words, FAILED, 0, -1) === 0) {
      // It is longer than the text at most.
      const { written } = new TextEncoder().encodeInto(reason, new Uint8Array(REASON_BYTES));
      const text = new TextEncoder().encode(reason).subarray(0, written);
      this.reason.set(text);
      this.words[REASON] = text.byteLength;
      Atomics.store(this.words, FAILED, this.index + 1);
    }
    Atomics.notify(this.words, TURN);
  }

  /** Who failed first and why, if one has. */
  failure(): { rank: number; reason: string } | undefined {
    const failed = Atomics.load(this.words, FAILED);
    if (failed <= 0) return undefined;
    return { rank: failed - 1, reason: new TextDecoder().decode(this.reason.slice(0, this.words[REASON])) };
  }

  /** Forgets a failure; no rank may run. */
  renew(): void {
    [ARRIVED, REASON, FAILED].forEach((word) => Atomics.store(this.words, word, 0));
  }

  private orStop(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.stop(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  /** Publishes bytes, waits for all, and hands out what the others have published. */
  private turn(intent: number[], own: Uint8Array, take: (rank: number, bytes: Uint8Array) => void): void {
    const turn = Atomics.load(this.words, TURN);
    const [mine, bytes] = this.slot(this.index, turn);
    intent.forEach((word, index) => (mine[index] = word));
    bytes.set(own);
    this.wait(turn);
    for (let rank = 0; rank < this.count; rank += 1) {
      if (rank === this.index) continue;
      const [theirs, published] = this.slot(rank, turn);
      if (intent.some((word, index) => theirs[index] !== word >>> 0)) {
        throw new Refusal(code.invalidRange, `ranks ${this.index} and ${rank} do not do the same`);
      }
      take(rank, published);
    }
  }

  private wait(turn: number): void {
    this.check();
    if (Atomics.add(this.words, ARRIVED, 1) + 1 === this.count) {
      Atomics.store(this.words, ARRIVED, 0);
      Atomics.add(this.words, TURN, 1);
      Atomics.notify(this.words, TURN);
      return;
    }
    for (let spin = 0; Atomics.load(this.words, TURN) === turn; spin += 1) {
      this.check();
      // A failure may come between the look and the wait, so that ends by itself.
      if (spin >= SPINS) Atomics.wait(this.words, TURN, turn, 50);
    }
  }

  private check(): void {
    const failed = Atomics.load(this.words, FAILED);
    if (failed === 0) return;
    const { rank, reason } = this.failure() ?? { rank: "another", reason: "it has just failed" };
    throw new Refusal(code.internal, `rank ${rank} of ${this.count} has stopped: ${reason}`);
  }

  /** Two for each rank: who writes for the next turn never touches what is read in this one. */
  private slot(rank: number, turn: number): [Uint32Array, Uint8Array] {
    const at = WORDS * 4 + REASON_BYTES + (rank * 2 + (turn & 1)) * SLOT;
    return [new Uint32Array(this.shared, at, INTENT_WORDS), new Uint8Array(this.shared, at + INTENT_WORDS * 4, PIECE)];
  }
}

/** What a rank exchanges of its chunk after `done` bytes of it. */
function piece(rank: number, chunk: number, done: number, total: number): [number, number] {
  const at = (offset: number) => Math.min(rank * chunk + offset, total);
  return [at(done), Math.max(at(done), at(Math.min(done + PIECE, chunk)))];
}
