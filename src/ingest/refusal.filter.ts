import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { Catch, HttpException, Inject, Logger, type ArgumentsHost } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Target } from '../auth/target.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { errorResponse, type HttpResponse, sendError } from '../http/answer.ts';
import { portOf } from '../http/port-server.ts';
import {
  collectorFailed,
  malformed,
  malformedWithoutType,
  nothingHere,
  onlyOtlp,
  onlyPost,
  onlyTraces,
  Refusal,
  type RefusalStatus,
  tracesElsewhere,
  unsupportedContentType,
} from '../otlp/refusal.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import { MalformedRequest } from '../transcode/bytes/malformed-request.ts';
import { declaredBytes, IngestService } from './ingest.service.ts';
import { RefusalLog } from './refusal-log.ts';

/** Nest filter: answers every error on the OTLP port with a google.rpc.Status in the request's encoding. */
@Catch()
export class RefusalFilter extends BaseExceptionFilter {
  private readonly failed = new RepeatedLine(new Logger('Ingest'), 'error', 'A request failed unexpectedly');

  constructor(
    private readonly ingest: IngestService,
    private readonly refusals: RefusalLog,
    @Inject(collectorConfig.KEY) private readonly config: Config,
  ) {
    super();
  }

  override catch(error: unknown, host: ArgumentsHost): void {
    const { raw: request, target } = host.switchToHttp().getRequest<FastifyRequest & { target: Target | null }>();
    const isOtlp = portOf(request) === 'otlp';
    if (!isOtlp && !(request.method === 'POST' && OTLP_PATH.test(request.url ?? ''))) return super.catch(error, host);
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    reply.hijack();
    this.answer(isOtlp ? error : tracesElsewhere(this.config.PORT), request, reply.raw, target?.id);
  }

  /** Answers a failed request. @param targetId its target, if known */
  private answer(error: unknown, request: IncomingMessage, response: ServerResponse, targetId?: string): void {
    // The client has closed the connection, or the port has answered.
    if ((request.destroyed && !request.complete) || response.headersSent) return;
    const refusal = this.refusalFor(error, request);
    this.refusals.add(refusal, request.headers, targetId);
    sendError(refusal, request, response, this.ingest.closed ? { connection: 'close' } : {});
  }

  /** Makes the answer to a failed plain request. @param targetId its target, if known */
  answerTo(error: unknown, headers: IncomingHttpHeaders, targetId?: string): HttpResponse {
    const refusal = this.refusalFor(error, { url: '/v1/traces', method: 'POST', headers });
    this.refusals.add(refusal, headers, targetId);
    return { ...errorResponse(refusal, headers['content-type']), close: this.ingest.closed };
  }

  private refusalFor(error: unknown, request: RequestHead): Refusal {
    // A body that is always too long gets 413, not a Retry-After: its sender would retry forever.
    const isForNow = error instanceof Refusal && error.retryAfterSeconds !== undefined;
    if (isForNow) return this.ingest.refusalOfLength(declaredBytes(request.headers)) ?? error;
    if (error instanceof Refusal) return error;
    if (error instanceof MalformedRequest)
      return request.headers['content-type'] === undefined ? malformedWithoutType(error.message) : malformed(error.message);
    if (error instanceof HttpException && error.getStatus() === 404) return notFound(request);
    const status = (error as { statusCode?: number }).statusCode ?? (error instanceof HttpException ? error.getStatus() : 500);
    // Errors of Fastify itself, for example about the URL, are client errors.
    if (status === 415) return unsupportedContentType(request.headers['content-type'] ?? '');
    if (status >= 400 && status < 500) return new Refusal(STATUSES.has(status) ? (status as RefusalStatus) : 400, (error as Error).message);
    this.failed.write({ err: error });
    return collectorFailed();
  }
}

const STATUSES: ReadonlySet<number> = new Set([400, 404, 405, 408, 413, 415]);
const OTLP_PATH = /^\/+v1\/(traces|metrics|logs)\/*$/;
/** The paths of OTLP's other signals. */
const OTHER_SIGNALS = /^\/+v1(development)?\/(metrics|logs|profiles)\/*$/;
/** The paths for spans of Jaeger and Zipkin. */
const OTHER_PROTOCOLS = /^\/+api\/(traces|v[12]\/spans)\/*$/;

type RequestHead = Pick<IncomingMessage, 'url' | 'method' | 'headers'>;

function notFound({ url = '', method = '' }: RequestHead): Refusal {
  const [path] = url.split('?', 1);
  if (path === '/v1/traces') return onlyPost(method);
  if (OTHER_PROTOCOLS.test(path)) return onlyOtlp(path);
  return OTHER_SIGNALS.test(path) ? onlyTraces(path) : nothingHere();
}
