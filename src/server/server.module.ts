import { Module } from '@nestjs/common';
import { IngestModule } from '../ingest/ingest.module.ts';
import { Ports } from './ports.ts';

@Module({ imports: [IngestModule], providers: [Ports], exports: [Ports] })
export class ServerModule {}
