import { Module } from '@nestjs/common';
import { GrpcModule } from '../grpc/grpc.module.ts';
import { IngestModule } from '../ingest/ingest.module.ts';
import { Ports } from './ports.ts';

@Module({ imports: [GrpcModule, IngestModule], providers: [Ports], exports: [Ports] })
export class ServerModule {}
