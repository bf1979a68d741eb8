import { Injectable } from '@nestjs/common';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { IngestService } from './ingest.service.ts';

/** The requests in flight, for the shutdown. */
export abstract class OpenRequests {
  /** Admits no further requests. Resolves when all requests in flight are answered. */
  abstract close(): Promise<void>;
  /** Queues the parsed spans. */
  abstract seal(): void | Promise<void>;
}

/** The requests of this thread. */
@Injectable()
export class OwnRequests extends OpenRequests {
  constructor(
    private readonly ingest: IngestService,
    private readonly transcoders: TranscoderPool,
  ) {
    super();
  }

  close(): Promise<void> {
    return this.ingest.close();
  }

  seal(): void {
    this.transcoders.seal();
  }
}
