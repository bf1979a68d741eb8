import { statfsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { makeDirectory } from '../runtime/durable-file.ts';
import { DiskBufferError } from './disk-buffer-error.ts';
import { DrainRate } from './drain-rate.ts';
import { RingQueue } from './ring-queue.ts';
import { Ring } from './ring.ts';
import { journalsOf } from './search-journals.ts';
import { ServerNames } from './server-names.ts';

/** `f_type` of a file system in memory (statfs(2)). */
const TMPFS_MAGIC = 0x01021994;

/** The disk buffer, if ENABLE_DISK_BUFFER is true: opened and recovered at start, closed after the last insert. */
@Injectable()
export class DiskBuffer implements OnApplicationShutdown {
  readonly ring: Ring | undefined;
  readonly queue: RingQueue | undefined;
  readonly drainRate: DrainRate | undefined;
  /** For the log: what was in it at the start, and how long the recovery took. */
  readonly found: object | undefined;
  private readonly logger = new Logger('DiskBuffer');
  private readonly dir: string;

  constructor(@Inject(collectorConfig.KEY) config: Config, deadLetters: DeadLetters) {
    this.dir = resolve(config.DISK_BUFFER_DIR);
    if (!config.ENABLE_DISK_BUFFER) return;
    try {
      makeDirectory(this.dir);
    } catch (error) {
      throw new DiskBufferError(
        `${this.dir} can't be created (${(error as NodeJS.ErrnoException).code}). ` +
          'Set DISK_BUFFER_DIR to a directory that the collector may write to.',
      );
    }
    if (statfsSync(this.dir).type === TMPFS_MAGIC)
      this.logger.warn({
        dir: this.dir,
        msg: 'DISK_BUFFER_DIR is in memory (tmpfs): its spans count against the memory limit, and are lost if the machine stops',
      });
    const start = performance.now();
    this.ring = Ring.open(join(this.dir, 'ring'), config.DISK_BUFFER_MAX_SIZE_MB * 1024 ** 2);
    const sizeMb = this.ring.fileBytes / 1024 ** 2;
    const { DISK_BUFFER_MAX_SIZE_MB } = config;
    if (sizeMb !== DISK_BUFFER_MAX_SIZE_MB) {
      this.logger.warn({
        sizeMb,
        DISK_BUFFER_MAX_SIZE_MB,
        msg: 'The disk buffer has another size than DISK_BUFFER_MAX_SIZE_MB, and keeps it. To resize it: npm run ring -- resize',
      });
    }
    const servers = new ServerNames(join(this.dir, 'servers'));
    this.queue = new RingQueue(
      this.ring,
      servers,
      config.DISK_BUFFER_SYNC,
      (insert, refused) => deadLetters.keep(insert, refused),
      config.ACK_MODE,
      journalsOf(join(this.dir, 'ring')),
    );
    const { stats } = this.queue;
    this.drainRate = new DrainRate(() => stats.insertedRows);
    this.found = this.inspect(this.ring, performance.now() - start);
  }

  /** The number of records that were lost to damage, found at the start. */
  get damagedRecords(): number {
    return this.ring?.damage.reduce((sum, { records }) => sum + records, 0) ?? 0;
  }

  /** Its state, for the health endpoint. */
  describe(): { state: 'ok' | 'failing'; reason?: string; usedBytes: number; capacityBytes: number } {
    const { usedBytes, capacityBytes } = this.ring!;
    const failure = this.queue!.diskFailure;
    return { state: failure === undefined ? 'ok' : 'failing', reason: failure?.message, usedBytes, capacityBytes };
  }

  async onApplicationShutdown(): Promise<void> {
    this.drainRate?.stop();
    await this.queue?.close();
  }

  /** Logs the damage. @returns the contents of the buffer, for the log */
  private inspect(ring: Ring, milliseconds: number): DiskBuffer['found'] {
    for (const { offset, records, reason } of ring.damage) {
      if (reason === 'insert')
        this.logger.error({ offset, msg: 'The disk buffer is damaged: a block is sent again, and may be stored twice' });
      else this.logger.error({ offset, records, reason, msg: 'The disk buffer is damaged: records are lost' });
    }
    return {
      dir: this.dir,
      capacityBytes: ring.capacityBytes,
      usedBytes: ring.usedBytes,
      waitingSpans: this.queue!.waiting.rows,
      insertsToRepeat: ring.replays.length,
      damagedRecords: this.damagedRecords,
      milliseconds: Math.round(milliseconds),
    };
  }
}
