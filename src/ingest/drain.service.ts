import { setTimeout as sleep } from 'node:timers/promises';
import { type BeforeApplicationShutdown, Inject, Injectable, Logger } from '@nestjs/common';
import { InsertWorkers } from '../batch/insert-workers.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { shuttingDown } from '../otlp/refusal.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { RequestTotals } from '../telemetry/request-counts.ts';
import { OpenRequests } from './open-requests.ts';

/** The part of SHUTDOWN_TIMEOUT_MS that is kept for the last answers. */
const ANSWER_MS = 500;

/** For this long, senders that send a further request right after their answer get a 503 with Retry-After. */
const LINGER_MS = 200;

/** Ends all work before the app closes: no request is admitted, parsed spans are stored, and each request is answered. */
@Injectable()
export class DrainService implements BeforeApplicationShutdown {
  private readonly logger = new Logger('Shutdown');
  private readonly timeoutMs: number;

  constructor(
    @Inject(collectorConfig.KEY) config: Config,
    private readonly requests: OpenRequests,
    private readonly totals: RequestTotals,
    private readonly queue: BlockQueue,
    private readonly workers: InsertWorkers,
  ) {
    this.timeoutMs = config.SHUTDOWN_TIMEOUT_MS;
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.logger.log({ requestsInHand: this.totals.now.open.requests, msg: 'Shutting down' });
    const answered = this.requests.close();
    const done = this.storeAll(answered).then(() => true);
    const deadline = new AbortController();
    const inTime = await Promise.race([done, sleep(Math.max(0, this.timeoutMs - ANSWER_MS), false, { signal: deadline.signal })]);
    deadline.abort();
    if (inTime) return sleep(LINGER_MS);
    const requestsInHand = this.totals.now.open.requests;
    const abandoned = this.queue.abandon(shuttingDown());
    this.logger.warn({
      requestsInHand,
      ...abandoned,
      msg: 'Shutdown timeout: spans in the disk buffer are sent by the next collector that starts on it, requests in flight are refused',
    });
    await Promise.race([answered, sleep(ANSWER_MS / 2)]);
  }

  private async storeAll(answered: Promise<void>): Promise<void> {
    await this.requests.seal();
    void this.workers.drain();
    await answered;
    // With ACK_MODE=received, spans of answered requests may still be in the open block.
    await this.requests.seal();
    await this.workers.drain();
  }
}
