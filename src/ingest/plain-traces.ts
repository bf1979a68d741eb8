import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import { Authenticator } from '../auth/authenticator.ts';
import type { Target } from '../auth/target.ts';
import type { HttpResponse } from '../http/answer.ts';
import type { ClientConnection, PlainHandler } from '../http/plain-connection.ts';
import type { PlainRequest } from '../http/plain-request.ts';
import { senderEnded } from '../otlp/refusal.ts';
import { SelfTracing } from '../tracing/self-tracing.ts';
import { IngestService } from './ingest.service.ts';
import { RefusalFilter } from './refusal.filter.ts';
import { TracesService } from './traces.service.ts';

/**
 * Answers plain requests, which are read without node:http (docs/architecture.md: "Reading requests"). Does the same as AuthGuard,
 * TracesController and RefusalFilter for all others, in the same order.
 */
@Injectable()
export class PlainTraces implements PlainHandler {
  constructor(
    private readonly auth: Authenticator,
    private readonly ingest: IngestService,
    private readonly traces: TracesService,
    private readonly filter: RefusalFilter,
    private readonly tracing: SelfTracing,
  ) {}

  /** Whether a request with these headers would be admitted now. Never rejects. */
  expects(headers: IncomingHttpHeaders): boolean | Promise<boolean> {
    return this.ingest.refusal() === undefined && this.auth.accepts(headers);
  }

  /** Answers a request, also if it fails. Never rejects. */
  async answer(request: PlainRequest, client: ClientConnection): Promise<HttpResponse> {
    let target: Target | undefined;
    try {
      const trace = this.tracing.tracer?.plainRequest(request.headers, client);
      trace?.step('authenticate');
      const found = this.auth.authenticateHeaders(request.headers);
      if (found instanceof Promise) {
        target = await found;
        if (client.isClosed) throw senderEnded();
      } else {
        target = found;
      }
      const { body, contentType } = await this.traces.exportPlain(request, client, target, trace);
      const headers = { 'content-type': contentType, 'content-length': String(body.length) };
      return { status: 200, headers, body, close: this.ingest.closed };
    } catch (error) {
      return this.filter.answerTo(error, request.headers, target?.id);
    }
  }
}
