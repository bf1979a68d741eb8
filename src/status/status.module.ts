import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.ts';
import { BatchModule } from '../batch/batch.module.ts';
import { IngestModule } from '../ingest/ingest.module.ts';
import { MetricsModule } from '../metrics/metrics.module.ts';
import { RecentTraces } from './recent-traces.ts';
import { Sampler } from './sampler.ts';
import { CollectorState } from './state.ts';
import { StatusController } from './status.controller.ts';
import { StatusService } from './status.service.ts';

@Module({
  imports: [AuthModule, BatchModule, IngestModule, MetricsModule],
  controllers: [StatusController],
  providers: [CollectorState, RecentTraces, Sampler, StatusService],
})
export class StatusModule {}
