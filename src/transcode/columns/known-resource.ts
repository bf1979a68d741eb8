/** A resource of more attributes is read every time. */
export const MAX_ATTRIBUTES = 64;

/** A resource as it stood in a request, and what it put into the columns: pairs of dictionary indexes. */
export class KnownResource {
  start = 0;
  length = 0;
  /** Offset of eight bytes that differ from the resource before: those of one service are alike but for an id. */
  probeOffset = 0;
  count = 0;
  hasTarget = false;
  readonly keys = new Int32Array(MAX_ATTRIBUTES);
  readonly values = new Int32Array(MAX_ATTRIBUTES);
}
