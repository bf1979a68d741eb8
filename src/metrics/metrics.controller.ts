import { Controller, Get, Res } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import { PrometheusController } from '@willsoto/nestjs-prometheus';
import type { FastifyReply } from 'fastify';

/** Serves /metrics: PrometheusModule sets the path. */
@Controller()
export class MetricsController extends PrometheusController {
  /** All metrics in Prometheus' text format. */
  @Get()
  @RouteConstraints({ port: 'admin' })
  override index(@Res({ passthrough: true }) reply: FastifyReply): Promise<string> {
    return super.index(reply);
  }
}
