import type { Encoding } from '../otlp/encoding.ts';
import { type ByteBuffer, limitGrowth } from './bytes/byte-buffer.ts';
import { MalformedRequest } from './bytes/malformed-request.ts';
import { adjustments, type Adjustment } from './columns/adjustment.ts';
import { rejections, type RejectedSpans, type Rejection } from './columns/rejection.ts';
import type { SpanColumns } from './columns/span-columns.ts';
import { JsonTranscoder } from './json/json-transcoder.ts';
import { ProtobufTranscoder } from './protobuf/protobuf-transcoder.ts';

export interface Transcoded {
  readonly accepted: number;
  /** Spans left out. */
  readonly rejected: number;
  /** The same by reason, if there are any. */
  readonly rejections?: readonly Rejection[];
  /** Spans that are stored with another value than they came with, by reason, if there are any. */
  readonly adjustments?: readonly Adjustment[];
}

/**
 * What a request may make the columns grow by: this many times its length, and a little more. What senders write takes a
 * sixth of it; but a double of nine bytes can be a text of three hundred.
 */
const MAX_GROWTH = 6;
const ALWAYS_ALLOWED_BYTES = 16 * 1024 * 1024;

/** The most memory, in bytes, that it takes to make a block of a request: all buffers when they are fullest, as measured (docs/performance.md). */
export function mostMemory(bodyBytes: number): number {
  return 2 * ALWAYS_ALLOWED_BYTES + 10 * bodyBytes;
}

const NONE: RejectedSpans = new Map();

/** Turns request bodies into rows of open columns. One at a time: the columns and the scratch memory are shared. */
export class Transcoder {
  private readonly columns: SpanColumns;
  private readonly maxSpanBytes: number;
  private readonly protobuf: ProtobufTranscoder;
  private readonly json: JsonTranscoder;

  /** @param maxSpanBytes spans that take more in their request are left out */
  constructor(columns: SpanColumns, maxSpanBytes: number) {
    this.columns = columns;
    this.maxSpanBytes = maxSpanBytes;
    this.protobuf = new ProtobufTranscoder(columns, maxSpanBytes);
    this.json = new JsonTranscoder(columns, maxSpanBytes);
  }

  /**
   * Appends the spans of one ExportTraceServiceRequest to the columns: all of them, or none.
   * @param body the requests of the block, inflated; this one is the last, from `begin` on
   * @throws MalformedRequest when it is none; the columns are then as they were
   */
  transcode(body: ByteBuffer, begin: number, encoding: Encoding, targetId: string): Transcoded {
    const { columns } = this;
    const transcoder = encoding === 'protobuf' ? this.protobuf : this.json;
    const before = columns.rows;
    const bodyBytes = body.length - begin;
    columns.beginRequest(targetId, bodyBytes);
    limitGrowth(ALWAYS_ALLOWED_BYTES + MAX_GROWTH * bodyBytes);
    try {
      const rejected = transcoder.transcode(body, begin, NONE);
      const rows = columns.rows - before;
      if (columns.untimedRows === rows) this.refuseOtherSignals(transcoder, body, begin, rows > 0);
      if (rejected === undefined) return { accepted: rows, rejected: 0, ...this.adjustments() };
      // Rare, so the second pass costs less than keeping every span revocable in the first.
      this.rollback();
      transcoder.transcode(body, begin, rejected);
      const accepted = columns.rows - before;
      const byReason = rejections(rejected, this.maxSpanBytes);
      if (accepted === 0 && byReason.every(({ reason }) => reason === 'bad_id'))
        throw new MalformedRequest('no span has valid ids: a trace id has 16 bytes, a span id 8');
      return { accepted, rejected: rejected.size, rejections: byReason, ...this.adjustments() };
    } catch (error) {
      this.rollback();
      if (error instanceof MalformedRequest) this.refuseOtherSignals(transcoder, body, begin, true);
      throw error;
    } finally {
      limitGrowth();
      transcoder.release();
    }
  }

  /** To be called when the columns are emptied. */
  forget(): void {
    this.protobuf.forget();
    this.json.forget();
  }

  /** @throws MalformedRequest that says what a request is which is none for traces, if it looks like it */
  private refuseOtherSignals(transcoder: ProtobufTranscoder | JsonTranscoder, body: ByteBuffer, begin: number, mayBeTraces: boolean): void {
    const other = transcoder.otherSignal(body, begin, mayBeTraces);
    if (other !== undefined) throw new MalformedRequest(other);
  }

  private adjustments(): Pick<Transcoded, 'adjustments'> | undefined {
    const { no_start: noStart, late_time: lateTime, unknown_enum: unknownEnum } = this.columns.adjusted;
    return noStart + lateTime + unknownEnum === 0 ? undefined : { adjustments: adjustments(this.columns.adjusted) };
  }

  private rollback(): void {
    this.columns.rollback();
    this.forget();
  }
}
