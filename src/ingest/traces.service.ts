import type { IncomingMessage } from 'node:http';
import { Injectable } from '@nestjs/common';
import type { Target } from '../auth/target.ts';
import type { Accepted } from '../blocks/open-block.ts';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { plainBody, readBody, type Body } from '../bodies/request-body.ts';
import type { PlainRequest } from '../http/plain-request.ts';
import { compressionOf, requiredCompression, requiredEncoding } from '../otlp/content.ts';
import { CONTENT_TYPES, successBody } from '../otlp/otlp-response.ts';
import { senderEnded } from '../otlp/refusal.ts';
import { RowsRefused } from '../queue/rows-refused.ts';
import type { RequestTrace } from '../tracing/request-trace.ts';
import { declaredBytes, IngestService, type Admitted } from './ingest.service.ts';
import { RepeatedRequests } from './repeated-requests.ts';

/** An answer with status 200. */
export interface ExportAnswer {
  readonly body: Buffer;
  readonly contentType: string;
}

/**
 * Handles one export request from admission to answer: it is admitted by its headers, its body is read, its spans are stored. All
 * transports share `store`; for gRPC, TraceExport does the part before it.
 */
@Injectable()
export class TracesService {
  constructor(
    private readonly ingest: IngestService,
    private readonly transcoders: TranscoderPool,
    private readonly repeated: RepeatedRequests,
  ) {}

  /**
   * Exports the spans of a plain request, as `exportStream` does.
   * @param connection an object that identifies the connection
   * @throws Refusal, MalformedRequest
   */
  exportPlain(request: PlainRequest, connection: object, target: Target, trace?: RequestTrace): Promise<ExportAnswer> {
    const { headers, bodyLength } = request;
    const encoding = requiredEncoding(headers);
    const compression = compressionOf(headers['content-encoding']);
    const admitted = this.ingest.admit('http', connection, target, encoding, bodyLength);
    trace?.step('read body');
    return this.store(admitted, plainBody(request, compression, this.ingest.bodyLimits, admitted.memory), trace);
  }

  /**
   * Exports the spans of a request that node:http reads. Resolves only when they are durable (docs/architecture.md: "200 means durable").
   * As far as possible, refuses before the body is read.
   * @throws Refusal, MalformedRequest
   */
  exportStream(request: IncomingMessage, target: Target, trace?: RequestTrace): Promise<ExportAnswer> {
    // The sender may wait for the answer, or be gone and retry elsewhere: TCP does not distinguish the two.
    if (request.socket.readableEnded) throw senderEnded();
    const encoding = requiredEncoding(request.headers);
    const compression = requiredCompression(request.headers);
    const admitted = this.ingest.admit('http', request.socket, target, encoding, declaredBytes(request.headers));
    trace?.step('read body');
    return this.store(admitted, readBody(request, compression, this.ingest.bodyLimits, admitted.memory), trace);
  }

  /**
   * Stores the spans of an admitted request.
   * @param read its body, inflated and within the limits; a promise unless it is already complete
   * @throws Refusal, MalformedRequest
   */
  async store(request: Admitted, read: Body | Promise<Body>, trace?: RequestTrace): Promise<ExportAnswer> {
    const { encoding, target } = request;
    let accepted: Accepted | undefined;
    try {
      const body = read instanceof Promise ? await read : read;
      trace?.step('transcode');
      // Spans that an earlier request has already sent are waited for, not stored again.
      const transcoded = this.repeated.take(body, encoding, target.id, () => this.transcoders.transcode(body, encoding, target.id, trace));
      this.ingest.countBody(request, body.length);
      accepted = transcoded instanceof Promise ? await transcoded : transcoded;
      trace?.transcoded({ targetId: target.id, encoding, bodyBytes: body.length, spans: accepted.accepted });
      await this.ingest.whenStored(request, accepted); // in ClickHouse or the disk buffer
      return this.acknowledge(request, accepted);
    } catch (error) {
      if (accepted === undefined) throw error;
      const inPart = error instanceof RowsRefused ? this.ingest.storedInPart(request, accepted, error) : undefined;
      if (inPart !== undefined) return this.acknowledge(request, inPart);
      this.ingest.notStored(request, accepted);
      throw error;
    } finally {
      this.ingest.leave(request);
    }
  }

  private acknowledge(request: Admitted, accepted: Accepted): ExportAnswer {
    this.ingest.acknowledged(request, accepted);
    return { body: successBody(accepted, request.encoding), contentType: CONTENT_TYPES[request.encoding] };
  }
}
