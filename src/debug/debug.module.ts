import { Module } from '@nestjs/common';
import { IngestModule } from '../ingest/ingest.module.ts';
import { DebugController } from './debug.controller.ts';
import { Profiler } from './profiler.service.ts';

@Module({ imports: [IngestModule], controllers: [DebugController], providers: [Profiler] })
export class DebugModule {}
