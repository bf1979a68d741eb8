import type { IncomingMessage } from 'node:http';
import { Injectable } from '@nestjs/common';
import type { Target } from '../auth/target.ts';
import type { Accepted } from '../blocks/open-block.ts';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { CONTENT_TYPES, successBody } from '../otlp/otlp-response.ts';
import { RowsRefused } from '../queue/rows-refused.ts';
import type { RequestTrace } from '../tracing/request-trace.ts';
import { IngestService, type Admitted } from './ingest.service.ts';
import { UnstoredRequests } from './unstored-requests.ts';

/** What is answered with status 200. */
export interface ExportAnswer {
  readonly body: Buffer;
  readonly contentType: string;
}

/** The way of a request through the collector, from its headers to its answer; gRPC's calls join it when they are let in. */
@Injectable()
export class TracesService {
  constructor(
    private readonly ingest: IngestService,
    private readonly transcoders: TranscoderPool,
    private readonly unstored: UnstoredRequests,
  ) {}

  /**
   * Takes one ExportTraceServiceRequest. Resolves only when its spans are durable (docs/architecture.md: "200 means durable").
   * @throws Refusal, MalformedRequest
   */
  export(target: Target, request: IncomingMessage, trace?: RequestTrace): Promise<ExportAnswer> {
    const admitted = this.ingest.admit(request, target); // refused here, if at all, before a byte of the body is read
    return this.take(admitted, trace);
  }

  /** The same from where the request is let in. */
  async take(request: Admitted, trace?: RequestTrace): Promise<ExportAnswer> {
    const { encoding, target } = request;
    let accepted: Accepted | undefined;
    try {
      trace?.step('read body');
      const read = this.ingest.readBody(request); // bounded, inflated
      const body = read instanceof Promise ? await read : read;
      trace?.step('transcode');
      // What an earlier request has brought already is waited for, and not stored again.
      const transcoded = this.unstored.take(body, encoding, target.id, () => this.transcoders.transcode(body, encoding, target.id, trace));
      this.ingest.came(request, body.length);
      accepted = transcoded instanceof Promise ? await transcoded : transcoded;
      trace?.taken({ targetId: target.id, encoding, bodyBytes: body.length, spans: accepted.accepted });
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
