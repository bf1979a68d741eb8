import { Global, Module } from '@nestjs/common';
import { DrainService } from '../ingest/drain.service.ts';
import { IngestModule } from '../ingest/ingest.module.ts';
import { OpenRequests, OwnRequests } from '../ingest/open-requests.ts';
import { IngestThreads } from './ingest-threads.ts';

@Global()
@Module({
  imports: [IngestModule],
  providers: [DrainService, OwnRequests, IngestThreads, { provide: OpenRequests, useExisting: IngestThreads }],
  exports: [IngestThreads],
})
export class ThreadsModule {}
