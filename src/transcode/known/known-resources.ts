import { sameBytes } from '../bytes/same-bytes.ts';
import { KnownResource, MAX_ATTRIBUTES } from '../columns/known-resource.ts';
import type { SpanColumns } from '../columns/span-columns.ts';

/** So many resources of a block are remembered: as many senders may take turns. */
const MAX_RESOURCES = 64;
/**
 * A sender's resource is the same in all of its requests. So it is compared as a whole with those of the block's
 * earlier requests before it is read.
 */
export class KnownResources {
  private readonly resources = Array.from({ length: MAX_RESOURCES }, () => new KnownResource());
  /** Resources that are known, the newest at `newest`, the others before it. */
  private known = 0;
  private newest = 0;

  /** Forgets everything: positions and dictionary indexes hold within one block only. */
  reset(): void {
    this.known = 0;
  }

  /** The resource whose bytes are those at `at`, where `limit` bytes are left. */
  lookUp(view: DataView, at: number, limit: number): KnownResource | undefined {
    for (let age = 0; age < this.known; age++) {
      const resource = this.resources[(this.newest - age) & (MAX_RESOURCES - 1)];
      const { start, length, probeOffset } = resource;
      if (length <= limit && sameBytes(view, start + probeOffset, at + probeOffset, 8) && sameBytes(view, start, at, length))
        return resource;
    }
    return undefined;
  }

  /** Remembers the resource at `start`, which is in the open row of the columns, and nothing else. */
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

/** Where two runs of bytes begin to differ, or the last place where eight can be compared. */
function firstDifference(view: DataView, one: number, other: number, length: number): number {
  const last = length - 8;
  let at = 0;
  while (at < last && sameBytes(view, one + at, other + at, 8)) at += 8;
  return Math.min(at, last);
}
