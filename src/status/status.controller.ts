import { Controller, Get, Header, NotFoundException, Query, Res, ServiceUnavailableException } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import type { FastifyReply } from 'fastify';
import { contentSecurityPolicy, page } from './page.ts';
import { RecentTraces } from './recent-traces.ts';
import { StatusService } from './status.service.ts';
import type { SpanDetails, Trace } from './trace.ts';

@Controller()
export class StatusController {
  constructor(
    private readonly status: StatusService,
    private readonly traces: RecentTraces,
  ) {}

  /** The status page. */
  @Get('/')
  @RouteConstraints({ port: 'admin' })
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', contentSecurityPolicy)
  @Header('x-content-type-options', 'nosniff')
  @Header('referrer-policy', 'no-referrer')
  @Header('cache-control', 'no-cache')
  index(): string {
    return page;
  }

  /**
   * The data of the page as server-sent events: `history` and `state` at once, then `sample` and `state` each second; `traces` in local
   * mode, and `end` at shutdown. 503 if too many pages are open.
   */
  @Get('/status/events')
  @RouteConstraints({ port: 'admin' })
  events(@Res() reply: FastifyReply): void {
    reply.hijack();
    if (!this.status.watch(reply.raw))
      reply.raw.writeHead(503, { 'content-type': 'text/plain', 'retry-after': '5' }).end('Too many status pages are open.\n');
  }

  /** The spans of a trace; in local mode only. */
  @Get('/status/trace')
  @RouteConstraints({ port: 'admin' })
  @Header('cache-control', 'no-store')
  async trace(@Query('trace') traceId: unknown): Promise<Trace> {
    return this.read(() => this.traces.trace(String(traceId)));
  }

  /** The attributes, resource and events of a span; in local mode only. */
  @Get('/status/span')
  @RouteConstraints({ port: 'admin' })
  @Header('cache-control', 'no-store')
  async span(@Query('trace') traceId: unknown, @Query('span') spanId: unknown): Promise<SpanDetails> {
    return this.read(() => this.traces.span(String(traceId), String(spanId)));
  }

  private async read<Found>(query: () => Promise<Found | undefined>): Promise<Found> {
    if (!this.traces.isOn) throw new NotFoundException('Traces are shown only in local mode.');
    const found = await query().catch((error: Error) => {
      throw new ServiceUnavailableException(`ClickHouse can't be read: ${error.message}`);
    });
    if (found === undefined) throw new NotFoundException('There is no such trace or span.');
    return found;
  }
}
