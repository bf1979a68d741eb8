import type { IncomingMessage } from 'node:http';
import { Inject, Injectable } from '@nestjs/common';
import { BlockQueue } from '../batch/block-queue.ts';
import { MemoryBudget } from '../batch/memory-budget.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { memoryFull, shuttingDown } from '../otlp/refusal.ts';
import type { RejectReason } from '../transcode/rejection.ts';
import type { Encoding } from '../transcode/transcoder.ts';
import { requiredCompression, requiredEncoding } from './content.ts';
import type { Accepted } from './open-block.ts';
import { readBody, type Body, type BodyLimits } from './request-body.ts';

/** A request that is let in. Disposed of when it has its answer. */
export interface Admitted extends Disposable {
  readonly encoding: Encoding;
  readBody(): Promise<Body>;
}

/** Decides whether requests are let in, and keeps count of those in hand. */
@Injectable()
export class IngestService {
  readonly stats = { acceptedSpans: 0, refusedSpans: 0, bodyBytes: 0 };
  /** Spans left out of requests otherwise taken. */
  readonly rejectedSpans: Record<RejectReason, number> = { bad_id: 0, bad_time: 0, too_large: 0 };
  /** Requests that are let in and not answered yet. */
  inHand = 0;
  private readonly config: Config;
  private readonly queue: BlockQueue;
  private readonly limits: BodyLimits;
  /** Set from the start of the shutdown on: nobody is let in, and answers end their connections. */
  closed = false;
  private readonly idle = Promise.withResolvers<void>();

  constructor(@Inject(collectorConfig.KEY) config: Config, queue: BlockQueue, budget: MemoryBudget) {
    this.config = config;
    this.queue = queue;
    this.limits = { maxBytes: config.MAX_REQUEST_MB * 1024 ** 2, timeoutMs: config.REQUEST_TIMEOUT_MS, budget };
  }

  /** Whether requests are let in; if not, why not. */
  refusal(): Error | undefined {
    if (this.closed) return shuttingDown();
    if (this.limits.budget.isFull) return memoryFull();
    return this.queue.refusal();
  }

  /** @throws Refusal 415 or 503 */
  admit(request: IncomingMessage): Admitted {
    const encoding = requiredEncoding(request.headers);
    const compression = requiredCompression(request.headers);
    const refusal = this.refusal();
    if (refusal !== undefined) throw refusal;
    this.inHand++;
    return {
      encoding,
      readBody: async () => {
        const body = await readBody(request, compression, this.limits);
        this.stats.bodyBytes += body.length;
        return body;
      },
      [Symbol.dispose]: () => this.leave(),
    };
  }

  /**
   * Resolves when the spans may be acknowledged.
   * @throws Refusal 500 or 503 when they are not stored
   */
  async acknowledge({ accepted, rejections = [], durable }: Accepted): Promise<void> {
    for (const { reason, spans } of rejections) this.rejectedSpans[reason] += spans;
    try {
      if (this.config.ACK_MODE === 'durable') await durable;
      this.stats.acceptedSpans += accepted;
    } catch (error) {
      this.stats.refusedSpans += accepted;
      throw error;
    }
  }

  /** From now on nobody is let in. Resolves when all requests in hand have their answer. */
  close(): Promise<void> {
    this.closed = true;
    if (this.inHand === 0) this.idle.resolve();
    return this.idle.promise;
  }

  private leave(): void {
    this.inHand--;
    if (this.closed && this.inHand === 0) this.idle.resolve();
  }
}
