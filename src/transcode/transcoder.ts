import type { ByteBuffer } from './byte-buffer.ts';
import { MalformedRequest } from './malformed-request.ts';
import { JsonTranscoder } from './json-transcoder.ts';
import { ProtobufTranscoder } from './protobuf-transcoder.ts';
import type { SpanColumns } from './span-columns.ts';

export type Encoding = 'protobuf' | 'json';

export interface Transcoded {
  readonly accepted: number;
  /** Spans left out because one of their ids has a wrong length. */
  readonly rejected: number;
}

/** Spans of a request that are left out, by their number in it. */
export type SkippedSpans = ReadonlySet<number>;
const NONE: SkippedSpans = new Set();

/** Turns request bodies into rows of open columns. One at a time: the columns and the scratch memory are shared. */
export class Transcoder {
  private readonly columns: SpanColumns;
  private readonly protobuf: ProtobufTranscoder;
  private readonly json: JsonTranscoder;

  constructor(columns: SpanColumns) {
    this.columns = columns;
    this.protobuf = new ProtobufTranscoder(columns);
    this.json = new JsonTranscoder(columns);
  }

  /**
   * Appends the spans of one ExportTraceServiceRequest to the columns: all of them, or none.
   * @param body the request, inflated
   * @throws MalformedRequest when it is none; the columns are then as they were
   */
  transcode(body: ByteBuffer, encoding: Encoding, targetId: string): Transcoded {
    const { columns } = this;
    const transcoder = encoding === 'protobuf' ? this.protobuf : this.json;
    const before = columns.rows;
    columns.beginRequest(targetId);
    try {
      const bad = transcoder.transcode(body, NONE);
      if (bad === undefined) return { accepted: columns.rows - before, rejected: 0 };
      // Rare, so the second pass costs less than keeping every span revocable in the first.
      columns.rollback();
      transcoder.transcode(body, bad);
      if (columns.rows === before) throw new MalformedRequest('no span has valid ids: a trace id has 16 bytes, a span id 8');
      return { accepted: columns.rows - before, rejected: bad.size };
    } catch (error) {
      columns.rollback();
      throw error;
    }
  }
}
