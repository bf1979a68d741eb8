import { Controller, Get, Header, Res } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import type { FastifyReply } from 'fastify';
import { contentSecurityPolicy, page } from './page.ts';
import { StatusService } from './status.service.ts';

@Controller()
export class StatusController {
  private readonly status: StatusService;

  constructor(status: StatusService) {
    this.status = status;
  }

  /** The status page, for people. */
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

  /** What the page shows, as server-sent events: `history` and `state` at once, then `sample` and `state` each second. */
  @Get('/status/events')
  @RouteConstraints({ port: 'admin' })
  events(@Res() reply: FastifyReply): void {
    reply.hijack();
    if (!this.status.watch(reply.raw)) reply.raw.writeHead(503, { 'content-type': 'text/plain', 'retry-after': '5' }).end('Too many status pages are open.\n');
  }
}
