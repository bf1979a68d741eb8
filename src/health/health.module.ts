import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { IngestModule } from '../ingest/ingest.module.ts';
import { CollectorHealth } from './collector-health.ts';
import { HealthController } from './health.controller.ts';

@Module({
  imports: [TerminusModule.forRoot({ logger: false }), IngestModule],
  controllers: [HealthController],
  providers: [CollectorHealth],
})
export class HealthModule {}
