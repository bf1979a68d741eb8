import { Global, Module } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { DeadLettersModule } from '../dead-letters/dead-letters.module.ts';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { DiskBufferModule } from '../disk-buffer/disk-buffer.module.ts';
import { DiskBuffer } from '../disk-buffer/disk-buffer.service.ts';
import { FailoverQueue } from '../disk-buffer/failover-queue.ts';
import { storageUnavailable } from '../otlp/refusal.ts';
import { BlockQueue, BlockSink } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { MemoryQueue } from '../queue/memory-queue.ts';
import { memoryLimitBytes } from '../runtime/memory-limit.ts';
import { StorageModule } from '../storage/storage.module.ts';
import { StorageService } from '../storage/storage.service.ts';
import { InsertPace } from './insert-pace.ts';
import { InsertWorkers } from './insert-workers.ts';

@Global()
@Module({
  imports: [DeadLettersModule, DiskBufferModule, StorageModule],
  providers: [
    {
      provide: MemoryPressure,
      useFactory: () => {
        const pressure = new MemoryPressure(memoryLimitBytes());
        pressure.start();
        return pressure;
      },
    },
    {
      provide: BlockQueue,
      inject: [collectorConfig.KEY, DiskBuffer, MemoryBudget, StorageService, DeadLetters],
      useFactory: (
        config: Config,
        { queue: ring }: DiskBuffer,
        budget: MemoryBudget,
        { availability }: StorageService,
        deadLetters: DeadLetters,
      ): BlockQueue => {
        if (ring !== undefined && config.DISK_BUFFER_ON_ERROR === 'refuse') return ring;
        const memory = new MemoryQueue({
          budget,
          ackTimeoutMs: config.ACK_MODE === 'durable' ? config.ACK_TIMEOUT_MS : undefined,
          storageRefusal: () => (config.ACK_MODE === 'durable' && availability.isDown ? storageUnavailable() : undefined),
          keepDeadLetter: (insert, refused) => deadLetters.keep(insert, refused),
        });
        return ring === undefined ? memory : new FailoverQueue(ring, memory);
      },
    },
    { provide: BlockSink, useExisting: BlockQueue },
    { provide: InsertPace, inject: [collectorConfig.KEY], useFactory: (config: Config) => new InsertPace(config.BATCH_TIMEOUT_MS) },
    {
      provide: InsertWorkers,
      inject: [BlockQueue, StorageService, collectorConfig.KEY, InsertPace],
      useFactory: (queue: BlockQueue, storage: StorageService, config: Config, pace: InsertPace) => {
        const sendersWait = config.ACK_MODE === 'durable' && !config.ENABLE_DISK_BUFFER;
        return new InsertWorkers(queue, storage, config, sendersWait ? pace : undefined);
      },
    },
  ],
  exports: [BlockQueue, BlockSink, DeadLettersModule, DiskBufferModule, InsertPace, InsertWorkers, MemoryPressure, StorageModule],
})
export class BatchModule {}
