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

  /** Is the process alive, and how are its parts? 200 as long as it can answer: a restart mends nothing that is outside. */
  @Get('/health')
  @RouteConstraints({ port: 'admin' })
  @HealthCheck()
  live(): Promise<HealthCheckResult> {
    return this.health.check([() => this.collector.describe()]);
  }

  /** May it be sent requests? 503 while it would refuse them. */
  @Get('/ready')
  @RouteConstraints({ port: 'admin' })
  @HealthCheck()
  ready(): Promise<HealthCheckResult> {
    return this.health.check([() => this.collector.accepting()]);
  }

  /** Kubernetes' liveness probe, in the words of the Collector's health_check extension. */
  @Get('/')
  @RouteConstraints({ port: 'healthcheck' })
  @Header('cache-control', 'no-store')
  healthcheck(): { status: string; upSince: string; uptime: string } {
    return { status: 'Server available', upSince: startedAt.toISOString(), uptime: `${process.uptime().toFixed(3)}s` };
  }
}
