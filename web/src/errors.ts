// What can go wrong, as people are told, and as guests are: the codes of abi/src/code.rs.

/** Codes that imports return to guests when they refuse: always negative, one meaning each. */
export const code = {
  /** The host made no memory for this guest. */
  notEnabled: -1,
  /** No layer with this number is registered. */
  layerNotFound: -2,
  /** The buffer that the guest offers is smaller than the layer or structure. */
  bufferTooSmall: -3,
  /** A range leaves the memory, or a chunk does not go with its total. */
  invalidRange: -4,
  /** Bytes exist but could not be brought in. */
  readFailed: -5,
  /** Pointer and length leave the guest's address space. */
  pointerOverflow: -6,
  /** The pointer is null, or the range lies beyond the guest's memory as it is now. */
  pointerOutOfBounds: -7,
  /** The host failed in a way that is not the guest's fault. */
  internal: -8,
} as const;

/** What went wrong, for programs that act on it. */
export type ErrorKind =
  | "argument"
  | "file"
  | "memory"
  | "network"
  | "storage"
  | "unsupported"
  | "guest"
  | "ranks"
  | "cancelled";

/** An error with a message for people. */
export class PolychordError extends Error {
  override readonly name = "PolychordError";

  constructor(
    readonly kind: ErrorKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Any error as one of these. */
  static from(error: unknown, kind: ErrorKind = "guest"): PolychordError {
    if (error instanceof PolychordError) return error;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof WebAssembly.RuntimeError) {
      return new PolychordError("guest", `the guest trapped: ${message}`, { cause: error });
    }
    return new PolychordError(kind, message, { cause: error });
  }
}

/** Why an import refuses, which the guest gets as a code. */
export class Refusal extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** What a status of the transformer guest means (abi/src/transformer.rs). */
export function explainStatus(status: number, lastRefusal: string | undefined): string {
  const why = lastRefusal ?? "the host does not know why";
  switch (status) {
    case -101: return "it does not understand the descriptor";
    case -102: return "a size of the network is impossible";
    case -103: return "a tensor is missing or given twice, or the network has none like it";
    case -104: return "it has no kernel for a tensor's type";
    case -105: return "its memory cannot grow any more: use a shorter context or a smaller model";
    case -106: return "the batch is empty or too large";
    case -107: return "the context is full";
    case -108: return "a token is not in the vocabulary";
    case -109: return "it does not hold these blocks";
    case -110: return "calls came in the wrong order";
    case -111: return `a layer cannot be loaded: ${why}`;
    case -112: return `the ranks do not compute together: ${why}`;
    case -113: return "it does not know a feature of the network: use the guest that comes with this host";
    case -114: return "a factor of rotary frequencies is not finite or not above zero: the file is damaged";
    case -115: return "a block does not have what it needs to go on there: evaluate the sequence again from its beginning";
    default: return "for a reason that this host does not know";
  }
}
