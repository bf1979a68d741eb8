import { Module } from '@nestjs/common';
import { CurrentTableLimits } from '../transcode/columns/table-limits.ts';
import { StorageService } from './storage.service.ts';

@Module({
  providers: [StorageService, { provide: CurrentTableLimits, useExisting: StorageService }],
  exports: [StorageService, CurrentTableLimits],
})
export class StorageModule {}
