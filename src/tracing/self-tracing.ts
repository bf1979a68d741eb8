import { setTimeout as sleep } from 'node:timers/promises';
import type { OnApplicationShutdown, OnModuleDestroy } from '@nestjs/common';
import type { Tracer } from './tracer.ts';

/** Longest time that a shutdown waits for the last spans to be sent. */
const LAST_SPANS_MS = 2_000;
/** Part of SHUTDOWN_TIMEOUT_MS that is left for the rest of the shutdown. */
const SPARE_MS = 250;

/** The traces of the collector itself, if ENABLE_SELF_TRACING is true (docs/operations.md). */
export class SelfTracing implements OnModuleDestroy, OnApplicationShutdown {
  /** Undefined if self-tracing is off: a check for undefined is then its only cost. */
  readonly tracer: Tracer | undefined;
  private readonly shutdownTimeoutMs: number;
  private stoppingAtMs = 0;

  constructor(tracer?: Tracer, shutdownTimeoutMs = 0) {
    this.tracer = tracer;
    this.shutdownTimeoutMs = shutdownTimeoutMs;
  }

  /** Notes when the shutdown begins. */
  onModuleDestroy(): void {
    this.stoppingAtMs = performance.now();
  }

  /** Sends the last spans: all requests are answered by now, and their spans have ended. */
  async onApplicationShutdown(): Promise<void> {
    if (this.tracer === undefined) return;
    const leftMs = this.stoppingAtMs + this.shutdownTimeoutMs - SPARE_MS - performance.now();
    await Promise.race([this.tracer.stop(), sleep(Math.max(0, Math.min(LAST_SPANS_MS, leftMs)))]);
  }
}
