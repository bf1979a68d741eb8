import { Controller, HttpCode, Post, Req, Res, UseGuards } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AuthGuard } from '../auth/auth.guard.ts';
import { Target } from '../auth/target.ts';
import { IngestService } from './ingest.service.ts';
import { CONTENT_TYPES, successBody } from './otlp-response.ts';
import { TranscoderPool } from './transcoder-pool.ts';

@Controller()
export class TracesController {
  private readonly ingest: IngestService;
  private readonly transcoders: TranscoderPool;

  constructor(ingest: IngestService, transcoders: TranscoderPool) {
    this.ingest = ingest;
    this.transcoders = transcoders;
  }

  /** Takes one ExportTraceServiceRequest. Answers only when its spans are durable (docs/architecture.md: "200 means durable"). */
  @Post('/v1/traces')
  @HttpCode(200)
  @RouteConstraints({ port: 'otlp' })
  @UseGuards(AuthGuard)
  async export(@Target() target: Target, @Req() request: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply): Promise<Buffer> {
    using admitted = this.ingest.admit(request.raw, target); // refused here, if at all, before a byte of the body is read
    const body = await admitted.readBody(); // bounded, inflated
    const accepted = await this.transcoders.transcode(body, admitted.encoding, target.id);
    await admitted.acknowledge(accepted); // in ClickHouse
    reply.header('content-type', CONTENT_TYPES[admitted.encoding]);
    if (this.ingest.closed) reply.header('connection', 'close');
    return successBody(accepted, admitted.encoding);
  }
}
