import type { Encoding } from '../otlp/encoding.ts';
import { compress } from '../runtime/zstd.ts';
import { ByteBuffer } from './bytes/byte-buffer.ts';
import type { DialectName } from './columns/dialect.ts';
import { encodeNativeBlock } from './columns/native-block.ts';
import { SpanColumns } from './columns/span-columns.ts';
import { NO_RULES, type TranscodeRules } from './columns/transcode-rules.ts';
import { Transcoder, type Transcoded } from './transcoder.ts';

/** One zstd frame with one Native block. It is stored and inserted unchanged. */
export interface SealedBlock {
  readonly frame: Buffer;
  readonly rows: number;
}

/** Appends requests to open columns, and seals these into a compressed block. */
export class BlockEncoder {
  private readonly columns: SpanColumns;
  private readonly transcoder: Transcoder;
  /** The requests of the open block, one after the other: later ones are compared with earlier ones (known-attributes.ts). */
  private readonly input = new ByteBuffer(65_536);
  private readonly native = new ByteBuffer(262_144);

  /**
   * @param maxSpanBytes spans of more bytes in their request are rejected
   * @param maxSpanAgeMs spans that started longer ago, or start more than a day from now, are rejected. Infinity accepts any time
   */
  constructor(dialect: DialectName, maxSpanBytes = Infinity, maxSpanAgeMs = Infinity) {
    this.columns = new SpanColumns(dialect);
    this.transcoder = new Transcoder(this.columns, maxSpanBytes);
    this.setRules({ ...NO_RULES, maxSpanAgeMs });
  }

  /** Sets the rules for the next requests. Spans in the open columns stay as they are. */
  setRules(rules: TranscodeRules): void {
    this.columns.setRules(rules);
    this.transcoder.forget();
  }

  /** The number of spans in the open columns. */
  get rows(): number {
    return this.columns.rows;
  }

  /**
   * Appends the spans of a request: all of them, or none.
   * @param body the request's chunks, inflated
   * @param bodyBytes its length, if known, to allocate its memory at once
   * @throws MalformedRequest when it is not an ExportTraceServiceRequest
   */
  add(body: Iterable<Uint8Array>, encoding: Encoding, targetId: string, bodyBytes = 0): Transcoded {
    const { input } = this;
    const begin = input.length;
    input.reserve(bodyBytes);
    for (const chunk of body) input.appendBytes(chunk);
    const before = this.rows;
    try {
      return this.transcoder.transcode(input, begin, encoding, targetId);
    } finally {
      // `rollback` keeps the memory of the rows; `empty` frees large buffers.
      if (this.rows === 0) {
        this.empty();
      } else if (this.rows === before) {
        this.transcoder.forget();
        input.length = begin;
      }
    }
  }

  /** Seals the open columns into a compressed block, and empties them. */
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
