import type { Encoding } from '../otlp/encoding.ts';
import { type ByteBuffer, limitGrowth } from './bytes/byte-buffer.ts';
import { MalformedRequest } from './bytes/malformed-request.ts';
import { adjustments, type Adjustment } from './columns/adjustment.ts';
import { rejections, type RejectedSpans, type Rejection } from './columns/rejection.ts';
import type { SpanColumns } from './columns/span-columns.ts';
import { JsonTranscoder } from './json/json-transcoder.ts';
import { ProtobufTranscoder } from './protobuf/protobuf-transcoder.ts';

/** The outcome of transcoding a request. */
export interface Transcoded {
  /** Spans appended to the columns. */
  readonly accepted: number;
  /** Spans that were left out. */
  readonly rejected: number;
  /** One for each reason to leave out spans, if there is any. */
  readonly rejections?: readonly Rejection[];
  /** One for each reason to store spans with a changed value, if there is any. */
  readonly adjustments?: readonly Adjustment[];
}

/**
 * Bytes by which the columns may grow for each byte of a request, beyond ALWAYS_ALLOWED_BYTES. Real requests need a sixth of it, but a
 * double of nine bytes can become a text of three hundred.
 */
const MAX_GROWTH = 6;
const ALWAYS_ALLOWED_BYTES = 16 * 1024 * 1024;

/** Peak memory, in bytes, of transcoding a request of this size into a block: all buffers together, as measured (docs/performance.md). */
export function mostMemory(bodyBytes: number): number {
  return 2 * ALWAYS_ALLOWED_BYTES + 10 * bodyBytes;
}

const NONE: RejectedSpans = new Map();

/** Appends requests to open columns, in either encoding. One request at a time: the columns and the scratch memory are shared. */
export class Transcoder {
  private readonly columns: SpanColumns;
  private readonly maxSpanBytes: number;
  private readonly protobuf: ProtobufTranscoder;
  private readonly json: JsonTranscoder;

  /** @param maxSpanBytes spans of more bytes in their request are rejected */
  constructor(columns: SpanColumns, maxSpanBytes: number) {
    this.columns = columns;
    this.maxSpanBytes = maxSpanBytes;
    this.protobuf = new ProtobufTranscoder(columns, maxSpanBytes);
    this.json = new JsonTranscoder(columns, maxSpanBytes);
  }

  /**
   * Appends the spans of one ExportTraceServiceRequest to the columns: all of them, or none.
   * @param body the inflated requests of the block. This one is the last: from `begin` to the end
   * @throws MalformedRequest when it is not an ExportTraceServiceRequest. The columns are then as they were before
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
      // Rejections are rare: a second pass costs less than the ability to remove single spans in the first.
      this.rollback();
      transcoder.transcode(body, begin, rejected);
      const accepted = columns.rows - before;
      const byReason = rejections(rejected, this.maxSpanBytes);
      if (accepted === 0 && byReason.every(({ reason }) => reason === 'bad_id')) {
        throw new MalformedRequest('no span has valid ids: a trace id has 16 bytes, a span id 8');
      }
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

  /** Clears the caches of earlier requests. Must be called when the columns or the requests' bytes are cleared. */
  forget(): void {
    this.protobuf.forget();
    this.json.forget();
  }

  /** @throws MalformedRequest that names the other signal, when the request looks like one */
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
