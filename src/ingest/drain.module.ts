import { Module } from '@nestjs/common';
import { DrainService } from './drain.service.ts';
import { IngestModule } from './ingest.module.ts';
import { OpenRequests, OwnRequests } from './open-requests.ts';

@Module({ imports: [IngestModule], providers: [DrainService, { provide: OpenRequests, useClass: OwnRequests }] })
export class DrainModule {}
