import { Module } from '@nestjs/common';
import { DiskBuffer } from './disk-buffer.service.ts';

@Module({ providers: [DiskBuffer], exports: [DiskBuffer] })
export class DiskBufferModule {}
