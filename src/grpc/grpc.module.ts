import { Module } from '@nestjs/common';
import { IngestModule } from '../ingest/ingest.module.ts';
import { GrpcHealth } from './grpc-health.ts';
import { GrpcServer } from './grpc-server.ts';
import { TraceExport } from './trace-export.ts';

@Module({ imports: [IngestModule], providers: [GrpcHealth, GrpcServer, TraceExport], exports: [GrpcServer] })
export class GrpcModule {}
