import { sameBytes } from '../bytes/same-bytes.ts';

/*
 * A cache of the ends of JSON spans. The fields after the attributes are usually the same in all spans: empty lists, counts of dropped
 * items, a status and flags. As with attributes (known-attributes.ts), their bytes are compared as a whole, in the context of the last
 * attribute, before they are parsed.
 *
 * A record, in 32-bit words. Positions and lengths are in bytes:
 *   0 generation   1 start   2 length   3 status code   4 start of the status message   5 its length   6, 7 unused
 */
const RECORDS = 256;
const RECORD_SHIFT = 32 - Math.log2(RECORDS);
const RECORD_WORDS = 8;

/** The ends of the open block's JSON spans, by context: the hash after the last attribute. */
export class KnownSpanEnds {
  /** Set by a successful `lookUp`: the end's length and status. The message is in the request. */
  length = 0;
  statusCode = 0;
  messageStart = 0;
  messageLength = 0;
  private readonly records = new Int32Array(RECORDS * RECORD_WORDS);
  /** Records of another generation are invalid. Empty ones have 0. */
  private generation = 1;

  /** Clears the cache: positions are valid within one block only. */
  reset(): void {
    this.generation = (this.generation + 1) | 0;
  }

  /** Whether the end that is known in this context, up to the span's closing brace, is at `at`, where `limit` bytes are left. */
  lookUp(contextHash: number, view: DataView, at: number, limit: number): boolean {
    const { records } = this;
    const record = recordOf(contextHash);
    if (records[record] !== this.generation) return false;
    const length = records[record + 2];
    if (length > limit || !sameBytes(view, records[record + 1], at, length)) return false;
    this.length = length;
    this.statusCode = records[record + 3];
    this.messageStart = records[record + 4];
    this.messageLength = records[record + 5];
    return true;
  }

  /** Adds the end at `start`. Without a status, `statusCode` and `messageLength` are 0. */
  remember(contextHash: number, start: number, length: number, statusCode: number, messageStart: number, messageLength: number): void {
    // Fewer than eight bytes can't be compared.
    if (length < 8) return;
    const { records } = this;
    const record = recordOf(contextHash);
    records[record] = this.generation;
    records[record + 1] = start;
    records[record + 2] = length;
    records[record + 3] = statusCode;
    records[record + 4] = messageStart;
    records[record + 5] = messageLength;
  }
}

function recordOf(contextHash: number): number {
  return (contextHash >>> RECORD_SHIFT) * RECORD_WORDS;
}
