import type { Encoding } from '../otlp/encoding.ts';
import { compress } from '../runtime/zstd.ts';
import { ByteBuffer } from './bytes/byte-buffer.ts';
import type { DialectName } from './columns/dialect.ts';
import { encodeNativeBlock } from './columns/native-block.ts';
import { SpanColumns } from './columns/span-columns.ts';
import { NO_RULES, type TranscodeRules } from './columns/transcode-rules.ts';
import { Transcoder, type Transcoded } from './transcoder.ts';

/** What is stored, byte for byte, from here on: one zstd frame that holds one Native block. */
export interface SealedBlock {
  readonly frame: Buffer;
  readonly rows: number;
}

/** Gathers requests in open columns, and seals these into a block. */
export class BlockEncoder {
  private readonly columns: SpanColumns;
  private readonly transcoder: Transcoder;
  /** The requests of the block: like places in them are compared (known-attributes.ts). */
  private readonly input = new ByteBuffer(65_536);
  private readonly native = new ByteBuffer(262_144);

  /**
   * @param maxSpanBytes spans that take more in their request are left out
   * @param maxSpanAgeMs so are spans that started earlier, or a day from now or later
   */
  constructor(dialect: DialectName, maxSpanBytes = Infinity, maxSpanAgeMs = Infinity) {
    this.columns = new SpanColumns(dialect);
    this.transcoder = new Transcoder(this.columns, maxSpanBytes);
    this.setRules({ ...NO_RULES, maxSpanAgeMs });
  }

  /** From the next request on; those in the open columns stay as they are. */
  setRules(rules: TranscodeRules): void {
    this.columns.setRules(rules);
    this.transcoder.forget();
  }

  /** Spans in the open columns. */
  get rows(): number {
    return this.columns.rows;
  }

  /**
   * Appends the spans of a request: all, or none.
   * @param body the request, inflated, in the pieces it came in
   * @param bodyBytes its length, if it is known: a large one takes no more memory than that
   * @throws MalformedRequest
   */
  add(body: Iterable<Uint8Array>, encoding: Encoding, targetId: string, bodyBytes = 0): Transcoded {
    const { input } = this;
    const begin = input.length;
    input.reserve(bodyBytes);
    for (const piece of body) input.appendBytes(piece);
    const before = this.rows;
    try {
      return this.transcoder.transcode(input, begin, encoding, targetId);
    } finally {
      // Taking rows back leaves the memory they took.
      if (this.rows === 0) {
        this.empty();
      } else if (this.rows === before) {
        this.transcoder.forget();
        input.length = begin;
      }
    }
  }

  /** Makes a block of the open columns, and empties them. */
  seal(): SealedBlock {
    const { columns, native } = this;
    const { rows } = columns;
    native.reset();
    encodeNativeBlock(native, columns);
    this.empty();
    const frame = compress(native.bytes.subarray(0, native.length));
    native.reset();
    return { frame, rows };
  }

  private empty(): void {
    this.columns.reset();
    this.transcoder.forget();
    this.input.reset();
  }
}
