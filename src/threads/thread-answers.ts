import { Inject, Injectable, Logger } from '@nestjs/common';
import { AuthService } from '../auth/auth.service.ts';
import { InsertPace } from '../batch/insert-pace.ts';
import { TranscodeWorkers } from '../blocks/transcode-workers.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { RefusalLog } from '../ingest/refusal-log.ts';
import { UnstoredRequests } from '../ingest/unstored-requests.ts';
import { processMemoryFull, Refusal, shuttingDown } from '../otlp/refusal.ts';
import { BlockOutcome } from '../queue/block-outcome.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { BlockTrace } from '../tracing/block-trace.ts';
import { SelfTracing } from '../tracing/self-tracing.ts';
import type { ThreadHandle } from './thread-handle.ts';
import { type Joined, type MainMethods, type PushedBlock, rowsOf } from './messages.ts';
import { QueueState } from './queue-state.ts';
import { SharedMemory } from './shared-memory.ts';
import { SpanBalance } from './span-balance.ts';

/** The methods of the main thread that ingest threads call. */
@Injectable()
export class ThreadAnswers {
  /** Compares the spans that the threads have acknowledged with those that are durable. */
  readonly balance = new SpanBalance();
  /** Set at shutdown: further blocks are refused, because the queue may be closed. */
  isEnded = false;

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    private readonly memory: SharedMemory,
    private readonly queue: BlockQueue,
    private readonly state: QueueState,
    private readonly auth: AuthService,
    private readonly transcoders: TranscodeWorkers,
    private readonly pace: InsertPace,
    private readonly unstored: UnstoredRequests,
    private readonly ingest: IngestService,
    private readonly refusals: RefusalLog,
    private readonly tracing: SelfTracing,
  ) {}

  /** Makes the methods for one ingest thread. @param onPrepared called when the thread can listen */
  for(thread: ThreadHandle, onPrepared: () => void): MainMethods {
    const { slot } = thread;
    const blocks = new Map<number, { readonly durable: Promise<void>; readonly outcome: BlockOutcome }>();
    const joined = new Map<number, Promise<void>>();
    let lastJoined = 0;
    return {
      prepared: onPrepared,
      push: async (block) => {
        const outcome = new BlockOutcome();
        const durable = this.push(block, outcome, slot);
        this.countPushed(durable, block.rows, thread);
        blocks.set(block.number, { durable, outcome });
        try {
          await durable;
        } finally {
          blocks.delete(block.number);
        }
      },
      countBodies: (requests) => {
        for (const [bodyBytes, sender] of requests) this.pace.countBody(bodyBytes, sender);
      },
      transcode: ({ chunks, length, encoding, targetId, rules }) => {
        const body = { length, move: () => [...chunks], refuse: processMemoryFull };
        const transcoded = this.transcoders.transcodeMoving(body, encoding, targetId, rules);
        this.state.publish();
        return transcoded.finally(() => this.state.publish());
      },
      authenticate: (headers) => this.auth.find(headers),
      accepts: (headers) => this.auth.accepts(headers),
      join: (identity): Joined | undefined => {
        const accepted = this.unstored.join(identity);
        if (accepted === undefined) return undefined;
        const { durable } = accepted;
        const rows = rowsOf(accepted);
        void this.balance.count(durable, rows.firstRow, rows.firstRow + rows.accepted, slot, () => thread.isGone);
        joined.set(++lastJoined, durable);
        return { rows, number: lastJoined };
      },
      joined: async (number) => {
        const durable = joined.get(number);
        joined.delete(number);
        await durable;
      },
      first: ({ identity, number, rows }) => {
        const block = blocks.get(number);
        if (block !== undefined) this.unstored.add(identity, { ...rows, ...block });
      },
      refused: (refusals) => {
        for (const refusal of refusals) this.refusals.remember(refusal);
      },
      acknowledged: (spansByTarget) => {
        for (const [targetId, spans] of spansByTarget) this.ingest.topTargets.count(targetId, spans);
      },
      log: ({ level, message, context }) => Logger[level](message, context),
    };
  }

  /** Counts a pushed block in `balance`: when it is durable, or at once with ACK_MODE=received, because it is already acknowledged. */
  private countPushed(durable: Promise<void>, rows: number, thread: ThreadHandle): void {
    const isGone = () => thread.isGone;
    const isReceived = this.config.ACK_MODE === 'received';
    void this.balance.count(isReceived ? Promise.resolve() : durable, 0, rows, thread.slot, isGone);
    // A thread that still runs counts its dropped spans itself. Spans that ClickHouse permanently refuses (500) are a dead letter.
    durable.catch((error: unknown) => {
      if (isReceived && isGone() && !(error instanceof Refusal && error.status === 500)) this.balance.lost += rows;
    });
  }

  private push({ frame, rows, trace }: PushedBlock, outcome: BlockOutcome, slot: number): Promise<void> {
    const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
    const { tracer } = this.tracing;
    const blockTrace = trace !== undefined && tracer !== undefined ? BlockTrace.of(tracer, trace) : undefined;
    const durable = this.isEnded ? Promise.reject(shuttingDown()) : this.queue.push({ frame: bytes, rows, outcome, trace: blockTrace });
    this.memory.received(frame.length, slot);
    this.state.publish();
    return durable;
  }
}
