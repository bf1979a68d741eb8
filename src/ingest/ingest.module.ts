import { Module } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { IngestService } from './ingest.service.ts';
import { PlainTraces } from './plain-traces.ts';
import { RefusalLog } from './refusal-log.ts';
import { RefusalFilter } from './refusal.filter.ts';
import { RepeatedRequests } from './repeated-requests.ts';
import { TracesController } from './traces.controller.ts';
import { TracesService } from './traces.service.ts';

@Module({
  controllers: [TracesController],
  providers: [
    IngestService,
    PlainTraces,
    TracesService,
    TranscoderPool,
    RepeatedRequests,
    RefusalFilter,
    RefusalLog,
    { provide: APP_FILTER, useExisting: RefusalFilter },
  ],
  exports: [IngestService, PlainTraces, TracesService, TranscoderPool, RefusalLog],
})
export class IngestModule {}
