import { sameBytes } from '../bytes/same-bytes.ts';

/*
 * What follows a span's attributes in JSON is most often the same for span after span: counts of what was dropped, empty
 * lists, a status, flags. As with attributes (known-attributes.ts) it is compared as a whole before it is read.
 *
 * A record of the memory:
 *   0 generation   1 start   2 length   3 whether there is a status   4 its code   5 its message's start   6 … and length
 */
const RECORDS = 256;
const RECORD_SHIFT = 32 - Math.log2(RECORDS);
const RECORD_WORDS = 8;

export class KnownSpanEnds {
  /** Of the tail that was found. The message lies in the request. */
  length = 0;
  hasStatus = false;
  statusCode = 0;
  messageStart = 0;
  messageLength = 0;
  private readonly records = new Int32Array(RECORDS * RECORD_WORDS);
  /** Above what an empty record says. */
  private generation = 1;

  reset(): void {
    this.generation = (this.generation + 1) | 0;
  }

  /** Whether the bytes at `at` are those remembered for this hash, the braces that close the span among them. */
  lookUp(hash: number, view: DataView, at: number, limit: number): boolean {
    const { records } = this;
    const record = (hash >>> RECORD_SHIFT) * RECORD_WORDS;
    if (records[record] !== this.generation) return false;
    const length = records[record + 2];
    if (length > limit || !sameBytes(view, records[record + 1], at, length)) return false;
    this.length = length;
    this.hasStatus = records[record + 3] !== 0;
    this.statusCode = records[record + 4];
    this.messageStart = records[record + 5];
    this.messageLength = records[record + 6];
    return true;
  }

  remember(
    hash: number,
    start: number,
    length: number,
    hasStatus: boolean,
    statusCode: number,
    messageStart: number,
    messageLength: number,
  ): void {
    if (length < 8) return;
    const { records } = this;
    const record = (hash >>> RECORD_SHIFT) * RECORD_WORDS;
    records[record] = this.generation;
    records[record + 1] = start;
    records[record + 2] = length;
    records[record + 3] = hasStatus ? 1 : 0;
    records[record + 4] = statusCode;
    records[record + 5] = messageStart;
    records[record + 6] = messageLength;
  }
}
