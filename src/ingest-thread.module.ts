import { Module } from '@nestjs/common';
import { CollectorConfigModule } from './config/config.module.ts';
import { GrpcModule } from './grpc/grpc.module.ts';
import { IngestModule } from './ingest/ingest.module.ts';
import { ServerModule } from './server/server.module.ts';
import { CountsModule } from './telemetry/counts.module.ts';
import { ThreadMemoryModule } from './threads/memory.module.ts';
import { ThreadModule } from './threads/thread.module.ts';
import { TracingModule } from './tracing/tracing.module.ts';

/** An ingest thread: what is in front of the queue. */
@Module({
  imports: [CollectorConfigModule, ThreadMemoryModule, CountsModule, TracingModule, ThreadModule, IngestModule, GrpcModule, ServerModule],
})
export class IngestThreadModule {}
