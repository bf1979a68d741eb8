import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { BlockQueue } from '../batch/block-queue.ts';
import { MemoryBudget } from '../batch/memory-budget.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { BlockEncoder } from '../transcode/block-encoder.ts';
import type { Encoding } from '../transcode/transcoder.ts';
import { OpenBlock, type Accepted } from './open-block.ts';
import type { Body } from './request-body.ts';
import { TranscodeWorkers } from './transcode-workers.ts';

/** Turns request bodies into queued blocks: small ones together, on the main thread; large ones each in a worker thread. */
@Injectable()
export class TranscoderPool implements OnApplicationShutdown {
  private readonly inlineBytes: number;
  private readonly largeBytes: number;
  private readonly open: OpenBlock;
  private readonly workers: TranscodeWorkers;
  private readonly queue: BlockQueue;
  private readonly budget: MemoryBudget;

  constructor(@Inject(collectorConfig.KEY) config: Config, queue: BlockQueue, budget: MemoryBudget) {
    this.inlineBytes = config.TRANSCODER_THREADS === 0 ? Number.POSITIVE_INFINITY : config.TRANSCODE_INLINE_KB * 1024;
    this.largeBytes = config.LARGE_REQUEST_KB * 1024;
    const maxSpanBytes = config.SPAN_MAX_SIZE_KB === 0 ? Number.POSITIVE_INFINITY : config.SPAN_MAX_SIZE_KB * 1024;
    const maxSpanAgeMs = config.SPAN_MAX_AGE_DAYS === 0 ? Number.POSITIVE_INFINITY : config.SPAN_MAX_AGE_DAYS * 86_400_000;
    this.open = new OpenBlock(new BlockEncoder(config.ROW_DIALECT, maxSpanBytes, maxSpanAgeMs), config.SEAL_INTERVAL_MS, queue, budget);
    this.workers = new TranscodeWorkers({ dialect: config.ROW_DIALECT, maxSpanBytes, maxSpanAgeMs }, config.TRANSCODER_THREADS);
    this.queue = queue;
    this.budget = budget;
  }

  /**
   * Queues the spans of a request, and takes over what its body has reserved in the memory budget.
   * @throws MalformedRequest; nothing of the request is stored then
   */
  transcode(body: Body, encoding: Encoding, targetId: string): Accepted | Promise<Accepted> {
    if (body.length > this.inlineBytes) return this.transcodeLarge(body, encoding, targetId);
    if (body.length <= this.largeBytes) return this.open.add(body, encoding, targetId);
    // A block of its own: it can be refused, for want of room, without harm to others.
    this.open.seal();
    const accepted = this.open.add(body, encoding, targetId);
    this.open.seal();
    return accepted;
  }

  /** Queues the spans that are still waiting for others. */
  seal(): void {
    this.open.seal();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.workers.stop();
  }

  private async transcodeLarge(body: Body, encoding: Encoding, targetId: string): Promise<Accepted> {
    try {
      const { transcoded, frame, rows } = await this.workers.transcode(body, encoding, targetId);
      if (rows === 0) return { ...transcoded, durable: Promise.resolve() };
      const durable = this.queue.push({ frame: Buffer.from(frame.buffer, frame.byteOffset, frame.length), rows });
      durable.catch(() => {});
      return { ...transcoded, durable };
    } finally {
      this.budget.release(body.length);
    }
  }
}
