import { Global, Module } from '@nestjs/common';
import { BatchModule } from '../batch/batch.module.ts';
import { LargeBodies } from './large-bodies.ts';
import { TranscodeWorkers } from './transcode-workers.ts';

@Global()
@Module({
  imports: [BatchModule],
  providers: [TranscodeWorkers, { provide: LargeBodies, useExisting: TranscodeWorkers }],
  exports: [TranscodeWorkers, LargeBodies],
})
export class BlocksModule {}
