import type { AttributeValue } from '../bytes/attribute-value.ts';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { sameBytes } from '../bytes/same-bytes.ts';

/*
 * Senders repeat themselves: in a like place of a like span they write the same attribute, often with the same value.
 * So what stood where in the requests of a block, and what it meant, is remembered by place, and the bytes at hand are
 * compared with it before they are read. A place is told by the keys of the attributes before it in the span, together
 * with the span's name, or, where that is new, without.
 *
 * A record of the memory:
 *   0 generation   1 start   2 head   3 length   4 key   5 value offset   6 value length
 *
 *     start      + head                      + length
 *     ├──────────┼───────────────────────────┤
 *     │   key    │   value                   │
 */
const PLACES = 4096;
const PLACE_SHIFT = 32 - Math.log2(PLACES);
const RECORD = 8;
/** Of values that do not stand in the request as they are stored, such as arrays, so many bytes are kept. */
const MAX_TEXT_BYTES = 262_144;
/** A large odd number: multiplying by it carries every bit to the upper ones. */
const MIX = 0x9e3779b1;

/** How much of what is remembered is found again. */
export type Found = 'nothing' | 'key' | 'attribute';

export class KnownAttributes {
  /** Of what was found: the key's number, where the value's text is, and how long the whole is. */
  key = 0;
  valueOffset = 0;
  valueLength = 0;
  head = 0;
  length = 0;
  /** The name and the keys so far, mixed: what tells the place where the next attribute stands. */
  place = 0;
  /** The same without the name. */
  private namelessPlace = 0;
  /** Values that do not stand in the request as they are stored. A negative value offset is `~position` in here. */
  readonly texts = new ByteBuffer(4096);
  private readonly records = new Int32Array(PLACES * RECORD);
  /** Above what an empty record says. */
  private generation = 1;

  /** Forgets everything: positions and key numbers hold within one block only. */
  reset(): void {
    this.generation = (this.generation + 1) | 0;
    this.texts.reset();
  }

  /** Goes to the first place of a span. Its name's length, first and last bytes tell it from others. */
  enter(name: ByteBuffer, start: number, length: number): void {
    let hash = length;
    if (length >= 4) hash = Math.imul(hash ^ name.view.getInt32(start, true), MIX) ^ name.view.getInt32(start + length - 4, true);
    this.place = Math.imul(hash, MIX);
    this.namelessPlace = 0;
  }

  /** Compares what is remembered for this place with the `limit` bytes at `at`. */
  lookUp(view: DataView, at: number, limit: number): Found {
    const found = this.lookUpAt(this.place, view, at, limit);
    return found === 'nothing' ? this.lookUpAt(this.namelessPlace, view, at, limit) : found;
  }

  /**
   * @param head of the `length` bytes at `start`, those that say the key; where they are too few to be compared, nothing is remembered
   * @param value the text that is stored: where it lies, in the request or in another buffer
   */
  remember(request: ByteBuffer, start: number, head: number, length: number, key: number, value: AttributeValue): void {
    if (head < 8 || value.length > MAX_TEXT_BYTES) return;
    let valueOffset = value.start - start;
    if (value.source !== request) {
      if (this.texts.length + value.length > MAX_TEXT_BYTES) this.reset();
      valueOffset = ~this.texts.length;
      this.texts.copy(value.source, value.start, value.length);
    }
    this.rememberAt(this.place, start, head, length, key, valueOffset, value.length);
    this.rememberAt(this.namelessPlace, start, head, length, key, valueOffset, value.length);
  }

  /** Goes on to the place behind an attribute. */
  pass(key: number, valueLength: number): void {
    this.place = behind(this.place, (valueLength << 16) ^ key);
    this.namelessPlace = behind(this.namelessPlace, key);
  }

  private lookUpAt(place: number, view: DataView, at: number, limit: number): Found {
    const { records } = this;
    const record = recordAt(place);
    if (records[record] !== this.generation) return 'nothing';
    const start = records[record + 1];
    const head = records[record + 2];
    const length = records[record + 3];
    if (head > limit || !sameBytes(view, start, at, head)) return 'nothing';
    this.key = records[record + 4];
    this.head = head;
    // Eight bytes at least: where the rest is shorter, some of the head's are among them.
    const rest = Math.min(head, length - 8);
    if (length > limit || !sameBytes(view, start + rest, at + rest, length - rest)) return 'key';
    this.length = length;
    this.valueOffset = records[record + 5];
    this.valueLength = records[record + 6];
    return 'attribute';
  }

  private rememberAt(
    place: number,
    start: number,
    head: number,
    length: number,
    key: number,
    valueOffset: number,
    valueLength: number,
  ): void {
    const { records } = this;
    const record = recordAt(place);
    records[record] = this.generation;
    records[record + 1] = start;
    records[record + 2] = head;
    records[record + 3] = length;
    records[record + 4] = key;
    records[record + 5] = valueOffset;
    records[record + 6] = valueLength;
  }
}

function recordAt(place: number): number {
  return (place >>> PLACE_SHIFT) * RECORD;
}

function behind(place: number, key: number): number {
  return Math.imul(place ^ (place >>> 15) ^ (key + 2), MIX);
}
