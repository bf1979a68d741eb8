import { Module } from '@nestjs/common';
import { AuthModule } from './auth/auth.module.ts';
import { BatchModule } from './batch/batch.module.ts';
import { CollectorConfigModule } from './config/config.module.ts';
import { GrpcModule } from './grpc/grpc.module.ts';
import { HealthModule } from './health/health.module.ts';
import { IngestModule } from './ingest/ingest.module.ts';
import { LogModule } from './log/log.module.ts';
import { MetricsModule } from './metrics/metrics.module.ts';
import { Ports } from './server/ports.ts';
import { StorageModule } from './storage/storage.module.ts';

@Module({
  imports: [CollectorConfigModule, LogModule, AuthModule, StorageModule, BatchModule, IngestModule, GrpcModule, HealthModule, MetricsModule],
  providers: [Ports],
})
export class AppModule {}
