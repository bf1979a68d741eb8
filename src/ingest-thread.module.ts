import { Module } from '@nestjs/common';
import { CollectorConfigModule } from './config/config.module.ts';
import { GrpcModule } from './grpc/grpc.module.ts';
import { IngestModule } from './ingest/ingest.module.ts';
import { ServerModule } from './server/server.module.ts';
import { CountsModule } from './telemetry/counts.module.ts';
import { ThreadMemoryModule } from './threads/memory.module.ts';
import { RemoteModule } from './threads/remote.module.ts';
import { TracingModule } from './tracing/tracing.module.ts';

/** The modules of an ingest thread: ports, authentication and transcoding. The queue and the inserts are in the main thread. */
@Module({
  imports: [CollectorConfigModule, ThreadMemoryModule, CountsModule, TracingModule, RemoteModule, IngestModule, GrpcModule, ServerModule],
})
export class IngestThreadModule {}
