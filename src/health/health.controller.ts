import { Controller, Get, Header } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import { HealthCheck, HealthCheckService, type HealthCheckResult } from '@nestjs/terminus';
import { CollectorHealth } from './collector-health.ts';

const startedAt = new Date();

@Controller()
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly collector: CollectorHealth,
  ) {}

  /** Liveness, and the state of the collector's parts. Always 200: a restart would not fix a problem outside of the process. */
  @Get('/health')
  @RouteConstraints({ port: 'admin' })
  @HealthCheck()
  live(): Promise<HealthCheckResult> {
    return this.health.check([() => this.collector.describe()]);
  }

  /** Readiness: 503 while requests would be refused, with the reason. */
  @Get('/ready')
  @RouteConstraints({ port: 'admin' })
  @HealthCheck()
  ready(): Promise<HealthCheckResult> {
    return this.health.check([() => this.collector.accepting()]);
  }

  /** For Kubernetes' liveness probe: the same answer as the OpenTelemetry Collector's health_check extension. */
  @Get('/')
  @RouteConstraints({ port: 'healthcheck' })
  @Header('cache-control', 'no-store')
  healthcheck(): { status: string; upSince: string; uptime: string } {
    return { status: 'Server available', upSince: startedAt.toISOString(), uptime: `${process.uptime().toFixed(3)}s` };
  }
}
