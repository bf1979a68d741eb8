import { Global, Module } from '@nestjs/common';
import { AuthGuard } from '../auth/auth.guard.ts';
import { Authenticator } from '../auth/authenticator.ts';
import { InsertPace } from '../batch/insert-pace.ts';
import { LargeBodies } from '../blocks/large-bodies.ts';
import { EarlierRequests } from '../ingest/unstored-requests.ts';
import { BlockSink } from '../queue/block-queue.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { memoryLimitBytes } from '../runtime/memory-limit.ts';
import { CurrentTableLimits } from '../transcode/columns/table-limits.ts';
import { MainThread } from './main-thread.ts';
import { RemoteAuth } from './remote-auth.ts';
import { RemoteBodies } from './remote-bodies.ts';
import { RemotePace } from './remote-pace.ts';
import { RemoteQueue } from './remote-queue.ts';
import { RemoteRequests } from './remote-requests.ts';
import { RemoteTable } from './remote-table.ts';
import { SharedMemory, State } from './shared-memory.ts';

/** MemoryPressure of an ingest thread. `promisedBytes` is read from the shared memory: only the main thread has the transcoder threads. */
class ThreadPressure extends MemoryPressure {
  private readonly state: Float64Array;

  constructor(memory: SharedMemory) {
    super(memoryLimitBytes());
    this.state = memory.state;
  }

  override admits(heldBytes: number): boolean {
    this.promisedBytes = this.state[State.promisedBytes];
    return super.admits(heldBytes);
  }
}

/** In an ingest thread, in place of the modules of auth, queue, inserts and storage: the main thread has these. */
@Global()
@Module({
  providers: [
    MainThread,
    RemoteQueue,
    RemoteTable,
    AuthGuard,
    { provide: BlockSink, useExisting: RemoteQueue },
    { provide: Authenticator, useClass: RemoteAuth },
    { provide: InsertPace, useClass: RemotePace },
    { provide: LargeBodies, useClass: RemoteBodies },
    { provide: EarlierRequests, useClass: RemoteRequests },
    { provide: CurrentTableLimits, useExisting: RemoteTable },
    { provide: MemoryPressure, inject: [SharedMemory], useFactory: (memory: SharedMemory) => new ThreadPressure(memory) },
  ],
  exports: [
    MainThread,
    RemoteTable,
    AuthGuard,
    BlockSink,
    Authenticator,
    InsertPace,
    LargeBodies,
    EarlierRequests,
    CurrentTableLimits,
    MemoryPressure,
  ],
})
export class RemoteModule {}
