import { Global, Module } from '@nestjs/common';
import { DrainService } from '../ingest/drain.service.ts';
import { IngestModule } from '../ingest/ingest.module.ts';
import { OpenRequests, OwnRequests } from '../ingest/open-requests.ts';
import { IngestThreads } from './ingest-threads.ts';
import { QueueState } from './queue-state.ts';
import { ThreadAnswers } from './thread-answers.ts';

@Global()
@Module({
  imports: [IngestModule],
  providers: [DrainService, OwnRequests, QueueState, ThreadAnswers, IngestThreads, { provide: OpenRequests, useExisting: IngestThreads }],
  exports: [IngestThreads],
})
export class ThreadsModule {}
