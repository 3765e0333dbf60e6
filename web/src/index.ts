// What programs use: sessions over any source of bytes, in Node and in workers of browsers.

export { capabilities, choose, relaxedSimd, type Ability, type Capabilities, type Choice } from "./capabilities.js";
export { PolychordError, code, type ErrorKind } from "./errors.js";
export { openWhole, type Parts, type Whole } from "./parts.js";
export type { PlaceOptions, Placement, PlacedLayer, PlacedMemory } from "./placement.js";
export {
  Session,
  type GenerateOptions,
  type Message,
  type ModelInfo,
  type Outcome,
  type Progress,
  type Sampling,
  type SessionOptions,
  type Token,
} from "./session.js";
export { BlobSource, BytesSource, type Source } from "./source.js";
export { UrlSource, type UrlOptions } from "./url.js";
