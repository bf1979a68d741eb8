import { Controller, HttpCode, Post, Req, Res, UseGuards } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AuthGuard } from '../auth/auth.guard.ts';
import { Target } from '../auth/target.ts';
import { SelfTracing } from '../tracing/self-tracing.ts';
import { IngestService } from './ingest.service.ts';
import { TracesService } from './traces.service.ts';

/** The route of traces. Nearly all requests take a shorter way to the same service: traces-fast-path.ts. */
@Controller()
export class TracesController {
  constructor(
    private readonly ingest: IngestService,
    private readonly traces: TracesService,
    private readonly tracing: SelfTracing,
  ) {}

  @Post('/v1/traces')
  @HttpCode(200)
  @RouteConstraints({ port: 'otlp' })
  @UseGuards(AuthGuard)
  async export(@Target() target: Target, @Req() request: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply): Promise<Buffer> {
    const { body, contentType } = await this.traces.export(target, request.raw, this.tracing.tracer?.request(request.raw, reply.raw));
    reply.header('content-type', contentType);
    if (this.ingest.closed) reply.header('connection', 'close');
    return body;
  }
}
