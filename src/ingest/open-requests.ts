import { Injectable } from '@nestjs/common';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { IngestService } from './ingest.service.ts';

/** The requests without their answer, for the shutdown. */
export abstract class OpenRequests {
  /** From now on no request is let in. Resolves when all requests in flight have their answers. */
  abstract close(): Promise<void>;
  /** Queues what is parsed. */
  abstract seal(): void | Promise<void>;
}

/** Those of this thread. */
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
