import { Module } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { AuthModule } from '../auth/auth.module.ts';
import { BatchModule } from '../batch/batch.module.ts';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { TargetLimits } from '../bodies/target-limits.ts';
import { DrainService } from './drain.service.ts';
import { IngestService } from './ingest.service.ts';
import { PlainTraces } from './plain-traces.ts';
import { RefusalLog } from './refusal-log.ts';
import { RefusalFilter } from './refusal.filter.ts';
import { TracesController } from './traces.controller.ts';
import { TracesService } from './traces.service.ts';
import { UnstoredRequests } from './unstored-requests.ts';

@Module({
  imports: [AuthModule, BatchModule],
  controllers: [TracesController],
  providers: [
    DrainService,
    IngestService,
    PlainTraces,
    TargetLimits,
    TracesService,
    TranscoderPool,
    UnstoredRequests,
    RefusalFilter,
    RefusalLog,
    { provide: APP_FILTER, useExisting: RefusalFilter },
  ],
  exports: [IngestService, PlainTraces, TargetLimits, TracesService, TranscoderPool, UnstoredRequests, RefusalLog],
})
export class IngestModule {}
