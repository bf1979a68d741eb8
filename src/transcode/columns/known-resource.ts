/** A resource with more attributes is not cached. */
export const MAX_ATTRIBUTES = 64;

/** A resource of an earlier request: the position of its bytes, and its attributes as pairs of dictionary indexes. */
export class KnownResource {
  start = 0;
  length = 0;
  /** Offset of eight bytes that differ from the resource cached before. Resources of one service often differ in an id only. */
  probeOffset = 0;
  count = 0;
  hasTarget = false;
  readonly keys = new Int32Array(MAX_ATTRIBUTES);
  readonly values = new Int32Array(MAX_ATTRIBUTES);
}
