import { Inject, Injectable, Logger, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import type { Refused } from '../queue/block-queue.ts';
import type { Insert } from '../queue/block.ts';
import { insertStatement } from '../storage/insert.ts';
import { DeadLetterFolder, deadLettersDir } from './dead-letter-folder.ts';

/** How often the dead letters are counted: the command line may remove some at any time. */
const COUNT_INTERVAL_MS = 5_000;

/** Stores acknowledged blocks that ClickHouse refuses permanently, up to DEAD_LETTERS_MAX_MB. None is deleted to make room. */
@Injectable()
export class DeadLetters implements OnModuleInit, OnApplicationShutdown {
  /** Spans of the dead letters written since the start. */
  keptRows = 0;
  /** Dead letters in the folder. */
  count = 0;
  /** Size of the folder. */
  bytes = 0;
  readonly limitBytes: number;
  private readonly logger = new Logger('DeadLetters');
  private readonly folder: DeadLetterFolder;
  private readonly query: string;
  private readonly timer: NodeJS.Timeout;
  private failure: Error | undefined;
  private lastKept: Promise<void> = Promise.resolve();

  constructor(@Inject(collectorConfig.KEY) config: Config) {
    this.folder = new DeadLetterFolder(deadLettersDir(config));
    this.limitBytes = config.DEAD_LETTERS_MAX_MB * 1024 ** 2;
    this.query = insertStatement(config);
    this.timer = setInterval(() => void this.recount().catch(() => {}), COUNT_INTERVAL_MS).unref();
  }

  async onModuleInit(): Promise<void> {
    // An unreadable folder is reported with the first dead letter.
    await this.recount().catch(() => {});
    if (this.count > 0)
      this.logger.warn({
        dir: this.folder.dir,
        letters: this.count,
        bytes: this.bytes,
        msg: 'There are dead letters. To list them: npm run dead-letters -- list',
      });
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** The state of the folder, for /health and the status page. */
  describe(): { state: 'ok' | 'failing'; reason?: string; letters: number; bytes: number; limitBytes: number } {
    const { failure, count: letters, bytes, limitBytes } = this;
    return { state: failure === undefined ? 'ok' : 'failing', reason: failure?.message, letters, bytes, limitBytes };
  }

  /** Writes a block as a dead letter. Resolves when it is on the disk. @throws Error when there is no room, or the disk fails */
  async keep(insert: Insert, refused: Refused): Promise<void> {
    // One at a time: two at once could exceed the limit together.
    const kept = this.lastKept.then(() => this.write(insert, refused));
    this.lastKept = kept.catch(() => {});
    try {
      await kept;
      this.failure = undefined;
    } catch (error) {
      this.failure = error as Error;
      throw error;
    }
  }

  private async write({ token, blocks, rows, bytes }: Insert, { error, server }: Refused): Promise<void> {
    await this.recount();
    const isThere = (await this.folder.read(token)) !== undefined;
    if (!isThere && this.bytes + bytes > this.limitBytes) {
      throw new Error(
        `${this.folder.dir} is full (DEAD_LETTERS_MAX_MB). Replay or export its dead letters: npm run dead-letters -- --help`,
      );
    }
    const deadLetter = {
      token,
      sequence: blocks[0].sequence,
      rows,
      code: error.code,
      reason: error.message,
      query: this.query,
      server,
      refusedAt: new Date().toISOString(),
    };
    await this.folder.write(deadLetter, Buffer.concat(blocks.map(({ frame }) => frame)));
    this.keptRows += rows;
    await this.recount();
  }

  private async recount(): Promise<void> {
    ({ count: this.count, bytes: this.bytes } = await this.folder.usage());
  }
}
