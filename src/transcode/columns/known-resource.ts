/** A resource with more attributes is not remembered. */
export const MAX_ATTRIBUTES = 64;

/** A resource of an earlier request: where its bytes are, and its attributes as pairs of dictionary indexes. */
export class KnownResource {
  start = 0;
  length = 0;
  /** Offset of eight bytes that differ from the resource remembered before. Those of one service often differ in an id only. */
  probeOffset = 0;
  count = 0;
  hasTarget = false;
  readonly keys = new Int32Array(MAX_ATTRIBUTES);
  readonly values = new Int32Array(MAX_ATTRIBUTES);
}
