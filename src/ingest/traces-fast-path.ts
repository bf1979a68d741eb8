import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { Injectable } from '@nestjs/common';
import { AuthService } from '../auth/auth.service.ts';
import type { Target } from '../auth/target.ts';
import type { Answer } from '../http/answer.ts';
import type { Sender } from '../http/whole-connection.ts';
import type { WholeRequest } from '../http/whole-request.ts';
import { senderEnded } from '../otlp/refusal.ts';
import { SelfTracing } from '../tracing/self-tracing.ts';
import { IngestService } from './ingest.service.ts';
import { RefusalFilter } from './refusal.filter.ts';
import { TracesService } from './traces.service.ts';

/**
 * The way of nearly every request past the routers of Nest and Fastify, which cost a small one as much as parsing it
 * (docs/performance.md). It does what they do with AuthGuard, TracesController and RefusalFilter, in the same order.
 * What has need of a router goes there: other paths and methods, and browsers (CORS).
 */
@Injectable()
export class TracesFastPath {
  constructor(
    private readonly auth: AuthService,
    private readonly ingest: IngestService,
    private readonly traces: TracesService,
    private readonly filter: RefusalFilter,
    private readonly tracing: SelfTracing,
  ) {}

  /** Whether a request can go this way. */
  takes({ url, method, headers }: IncomingMessage): boolean {
    return url === '/v1/traces' && method === 'POST' && headers.origin === undefined;
  }

  /** Whether requests that come whole may go by `answer`: those that are traced have need of what node:http makes of them. */
  get takesWhole(): boolean {
    return this.tracing.tracer === undefined;
  }

  /** Whether a request with these headers would be let in as things are. */
  expects(headers: IncomingHttpHeaders): boolean | Promise<boolean> {
    return this.ingest.refusal() === undefined && this.auth.accepts(headers);
  }

  /** Answers a request that has come whole. */
  async answer(request: WholeRequest, sender: Sender): Promise<Answer> {
    let target: Target | undefined;
    try {
      const found = this.auth.authenticateHeaders(request.headers);
      if (found instanceof Promise) {
        target = await found;
        if (sender.hasLeft) throw senderEnded();
      } else {
        target = found;
      }
      const { body, contentType } = await this.traces.take(this.ingest.admitWhole(request, sender, target));
      return {
        status: 200,
        headers: { 'content-type': contentType, 'content-length': String(body.length) },
        body,
        close: this.ingest.closed,
      };
    } catch (error) {
      return this.filter.answerTo(error, request.headers, target?.id);
    }
  }

  /** Answers the request. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let target: Target | undefined;
    try {
      const trace = this.tracing.tracer?.request(request, response);
      trace?.step('authenticate');
      const found = this.auth.authenticateHeaders(request.headers);
      target = found instanceof Promise ? await found : found;
      const { body, contentType } = await this.traces.export(target, request, trace);
      const headers = ['content-type', contentType, 'content-length', String(body.length)];
      if (this.ingest.closed) headers.push('connection', 'close');
      // Text goes out in one write with the headers; bytes would take a write of their own.
      response.writeHead(200, headers).end(body.toString('latin1'), 'latin1');
    } catch (error) {
      this.filter.answer(error, request, response, target?.id);
    }
  }
}
