import { Catch, HttpException, Logger, type ArgumentsHost } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { portOf } from '../server/adapter.ts';
import { malformed, Refusal, type RefusalStatus, unexpected, unsupportedContentType } from '../otlp/refusal.ts';
import { MalformedRequest } from '../transcode/malformed-request.ts';
import { encodingOf } from './content.ts';
import { IngestService } from './ingest.service.ts';
import { CONTENT_TYPES, errorBody } from './otlp-response.ts';

/** Answers everything that goes wrong on the OTLP port with a google.rpc.Status in the request's encoding. */
@Catch()
export class RefusalFilter extends BaseExceptionFilter {
  /** Requests refused, by HTTP status; gRPC calls under the one that HTTP would have. */
  readonly refused = new Map<number, number>();
  private readonly log = new Logger('Ingest');
  private readonly ingest: IngestService;

  constructor(ingest: IngestService) {
    super();
    this.ingest = ingest;
  }

  override catch(error: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    if (portOf(request.raw) !== 'otlp') return super.catch(error, host);
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    // The client is gone: there is nobody to answer.
    if (request.raw.destroyed && !request.raw.complete) {
      reply.hijack();
      return;
    }
    const { status, message, retryAfterSeconds } = this.refusalFor(error, request);
    this.count(status);
    const contentType = request.headers['content-type'];
    // Whoever sends no body at all is looking around, and reads JSON more easily.
    const encoding = contentType === undefined && request.method !== 'POST' ? 'json' : (encodingOf(contentType) ?? 'json');
    if (retryAfterSeconds !== undefined) void reply.header('retry-after', retryAfterSeconds);
    if (status === 405) void reply.header('allow', 'POST');
    // A connection that is closed under an unread body is reset, and the answer can be lost with it.
    if (this.ingest.closed && request.raw.complete) void reply.header('connection', 'close');
    void reply.status(status).header('content-type', CONTENT_TYPES[encoding]).send(errorBody(status, message, encoding));
  }

  count(status: RefusalStatus): void {
    this.refused.set(status, (this.refused.get(status) ?? 0) + 1);
  }

  private refusalFor(error: unknown, request: FastifyRequest): Refusal {
    if (error instanceof Refusal) return error;
    if (error instanceof MalformedRequest) return malformed(error.message);
    if (error instanceof HttpException && error.getStatus() === 404) return notFound(request);
    const status = (error as { statusCode?: number }).statusCode ?? (error instanceof HttpException ? error.getStatus() : 500);
    // Errors of Fastify itself, say about a header, are the client's.
    if (status === 415) return unsupportedContentType(request.headers['content-type'] ?? '');
    if (status >= 400 && status < 500) return new Refusal(STATUSES.has(status) ? (status as RefusalStatus) : 400, (error as Error).message);
    this.log.error({ err: error, msg: 'A request failed unexpectedly' });
    return unexpected();
  }
}

const STATUSES: ReadonlySet<number> = new Set([400, 404, 405, 408, 413, 415]);

function notFound(request: FastifyRequest): Refusal {
  const path = request.url.split('?', 1)[0];
  if (path === '/v1/traces') return new Refusal(405, `${request.method} is not supported here. Send traces with POST.`);
  return new Refusal(404, 'Nothing is here. Send traces to POST /v1/traces.');
}
