import { parentPort } from 'node:worker_threads';
import { Injectable } from '@nestjs/common';
import { Channel } from './channel.ts';
import type { MainMethods, ThreadMethods } from './messages.ts';

/** The main thread, as an ingest thread sees it. */
@Injectable()
export class MainThread extends Channel<MainMethods, ThreadMethods> {
  constructor() {
    super(parentPort!);
  }

  /** Starts answering the main thread's calls, beginning with those that have already arrived. */
  serve(methods: ThreadMethods): void {
    this.answerWith(methods);
    parentPort!.on('message', (packets: Parameters<typeof this.receive>[0]) => this.receive(packets));
  }
}
