import { Module } from '@nestjs/common';
import { DeadLettersModule } from '../dead-letters/dead-letters.module.ts';
import { DiskBuffer } from './disk-buffer.service.ts';

@Module({ imports: [DeadLettersModule], providers: [DiskBuffer], exports: [DiskBuffer] })
export class DiskBufferModule {}
