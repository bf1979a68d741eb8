import { Module } from '@nestjs/common';
import { AuthModule } from './auth/auth.module.ts';
import { BatchModule } from './batch/batch.module.ts';
import { BlocksModule } from './blocks/blocks.module.ts';
import { CollectorConfigModule } from './config/config.module.ts';
import { DebugModule } from './debug/debug.module.ts';
import { HealthModule } from './health/health.module.ts';
import { IngestModule } from './ingest/ingest.module.ts';
import { UnstoredModule } from './ingest/unstored.module.ts';
import { MetricsModule } from './metrics/metrics.module.ts';
import { ServerModule } from './server/server.module.ts';
import { StatusModule } from './status/status.module.ts';
import { StorageModule } from './storage/storage.module.ts';
import { CountsModule } from './telemetry/counts.module.ts';
import { LogModule } from './telemetry/log.module.ts';
import { ThreadMemoryModule } from './threads/memory.module.ts';
import { ThreadsModule } from './threads/threads.module.ts';
import { TracingModule } from './tracing/tracing.module.ts';

@Module({
  imports: [
    CollectorConfigModule,
    LogModule,
    ThreadMemoryModule,
    CountsModule,
    TracingModule,
    AuthModule,
    StorageModule,
    BatchModule,
    BlocksModule,
    UnstoredModule,
    ThreadsModule,
    IngestModule,
    ServerModule,
    HealthModule,
    MetricsModule,
    StatusModule,
    DebugModule,
  ],
})
export class AppModule {}
