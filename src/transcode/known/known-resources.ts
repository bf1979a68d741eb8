import { sameBytes } from '../bytes/same-bytes.ts';
import { KnownResource, MAX_ATTRIBUTES } from '../columns/known-resource.ts';
import type { SpanColumns } from '../columns/span-columns.ts';

/** Resources that are cached: requests of as many senders can alternate. A power of two. */
const MAX_RESOURCES = 64;

/**
 * A cache of the resources in the open block's requests. A sender's resource is the same in all of its requests, so its bytes are
 * compared as a whole before they are parsed.
 */
export class KnownResources {
  private readonly resources = Array.from({ length: MAX_RESOURCES }, () => new KnownResource());
  /** The number of known resources: the newest is at `newest`, the others before it. */
  private known = 0;
  private newest = 0;

  /** Clears the cache: positions and dictionary indexes are valid within one block only. */
  reset(): void {
    this.known = 0;
  }

  /** The known resource whose bytes are at `at`, where `limit` bytes are left. */
  lookUp(view: DataView, at: number, limit: number): KnownResource | undefined {
    for (let age = 0; age < this.known; age++) {
      const resource = this.resources[(this.newest - age) & (MAX_RESOURCES - 1)];
      const { start, length, probeOffset } = resource;
      if (length > limit || !sameBytes(view, start + probeOffset, at + probeOffset, 8)) continue;
      if (sameBytes(view, start, at, length)) return resource;
    }
    return undefined;
  }

  /** Adds the resource at `start`, whose attributes are those of the columns' open resource. */
  remember(columns: SpanColumns, view: DataView, start: number, length: number): void {
    if (length < 8 || columns.resourceAttributes.count > MAX_ATTRIBUTES) return;
    const before = this.resources[this.newest];
    this.newest = (this.newest + 1) & (MAX_RESOURCES - 1);
    const resource = this.resources[this.newest];
    resource.start = start;
    resource.length = length;
    resource.probeOffset = this.known === 0 ? 0 : firstDifference(view, before.start, start, Math.min(before.length, length));
    this.known = Math.min(MAX_RESOURCES, this.known + 1);
    columns.saveResource(resource);
  }
}

/** The offset of the first eight bytes, a multiple of eight, in which two runs of bytes differ, or of their last eight. */
function firstDifference(view: DataView, one: number, other: number, length: number): number {
  const last = length - 8;
  let at = 0;
  while (at < last && sameBytes(view, one + at, other + at, 8)) at += 8;
  return Math.min(at, last);
}
