import { Controller, HttpCode, Post, Req, Res, UseGuards } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import type { FastifyReply } from 'fastify';
import { AuthGuard } from '../auth/auth.guard.ts';
import { type AuthenticatedRequest, Target } from '../auth/target.ts';
import { IngestService } from './ingest.service.ts';
import { TracesService } from './traces.service.ts';

/** The route for traces. Plain requests reach the same service without Nest (plain-traces.ts). */
@Controller()
export class TracesController {
  constructor(
    private readonly ingest: IngestService,
    private readonly traces: TracesService,
  ) {}

  /** Answers one ExportTraceServiceRequest when its spans are durable. @throws Refusal, MalformedRequest */
  @Post('/v1/traces')
  @HttpCode(200)
  @RouteConstraints({ port: 'otlp' })
  @UseGuards(AuthGuard)
  async export(
    @Target() target: Target,
    @Req() request: AuthenticatedRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Buffer> {
    const { body, contentType } = await this.traces.exportStream(request.raw, target, request.trace);
    reply.header('content-type', contentType);
    if (this.ingest.closed) reply.header('connection', 'close');
    return body;
  }
}
