import { setTimeout as sleep } from 'node:timers/promises';
import type { OnApplicationShutdown, OnModuleDestroy } from '@nestjs/common';
import type { Tracer } from './tracer.ts';

/** At the end, the last spans have this long to be sent: a shutdown waits for an endpoint that is down no longer. */
const LAST_SPANS_MS = 2_000;
/** Of SHUTDOWN_TIMEOUT_MS, left for what else has to end. */
const SPARE_MS = 250;

/** The traces of the collector itself, where ENABLE_SELF_TRACING wants them (docs/operations.md). */
export class SelfTracing implements OnModuleDestroy, OnApplicationShutdown {
  /** Undefined while it is off: that is all that it costs then. */
  readonly tracer: Tracer | undefined;
  private readonly shutdownTimeoutMs: number;
  private stoppingAtMs = 0;

  constructor(tracer?: Tracer, shutdownTimeoutMs = 0) {
    this.tracer = tracer;
    this.shutdownTimeoutMs = shutdownTimeoutMs;
  }

  /** The shutdown begins. */
  onModuleDestroy(): void {
    this.stoppingAtMs = performance.now();
  }

  /** All requests have their answers, and their spans have ended. */
  async onApplicationShutdown(): Promise<void> {
    if (this.tracer === undefined) return;
    const leftMs = this.stoppingAtMs + this.shutdownTimeoutMs - SPARE_MS - performance.now();
    await Promise.race([this.tracer.stop(), sleep(Math.max(0, Math.min(LAST_SPANS_MS, leftMs)))]);
  }
}
