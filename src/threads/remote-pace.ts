import { Inject, Injectable } from '@nestjs/common';
import { InsertPace, type PacedSender } from '../batch/insert-pace.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import type { Packet } from './channel.ts';
import { MainThread } from './main-thread.ts';

/**
 * Reports requests to the main thread, which decides when inserts start. Senders are tracked here, because each connection belongs to one
 * thread.
 */
@Injectable()
export class RemotePace extends InsertPace {
  private readonly main: MainThread;
  private readonly isWanted: boolean;
  private requests: (readonly [bodyBytes: number, sender: PacedSender])[] = [];

  constructor(@Inject(collectorConfig.KEY) config: Config, main: MainThread) {
    super(config.BATCH_TIMEOUT_MS);
    this.main = main;
    main.firstPacket = () => this.take();
    this.isWanted = config.ACK_MODE === 'durable' && !config.ENABLE_DISK_BUFFER;
  }

  override countBody(bodyBytes: number, sender: PacedSender): void {
    if (!this.isWanted) return;
    this.requests.push([bodyBytes, { ...sender }]);
    this.main.wake();
  }

  private take(): Packet | undefined {
    const { requests } = this;
    if (requests.length === 0) return undefined;
    this.requests = [];
    return { tell: 'countBodies', argument: requests };
  }
}
