import { Global, Module } from '@nestjs/common';
import { BatchModule } from '../batch/batch.module.ts';
import { TargetLimits } from '../bodies/target-limits.ts';
import { LargeBodies } from './large-bodies.ts';
import { TranscodeWorkers } from './transcode-workers.ts';

@Global()
@Module({
  imports: [BatchModule],
  providers: [TargetLimits, TranscodeWorkers, { provide: LargeBodies, useExisting: TranscodeWorkers }],
  exports: [TargetLimits, TranscodeWorkers, LargeBodies],
})
export class BlocksModule {}
