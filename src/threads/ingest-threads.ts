import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { AuthService } from '../auth/auth.service.ts';
import { InsertPace } from '../batch/insert-pace.ts';
import { TranscodeWorkers } from '../blocks/transcode-workers.ts';
import { TargetLimits } from '../bodies/target-limits.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { OpenRequests, OwnRequests } from '../ingest/open-requests.ts';
import { RefusalLog } from '../ingest/refusal-log.ts';
import { UnstoredRequests } from '../ingest/unstored-requests.ts';
import { processMemoryFull, Refusal, shuttingDown, starting } from '../otlp/refusal.ts';
import { BlockOutcome } from '../queue/block-outcome.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { RequestCounts, resetOpen } from '../telemetry/request-counts.ts';
import { BlockTrace } from '../tracing/block-trace.ts';
import { SelfTracing } from '../tracing/self-tracing.ts';
import { CurrentTableLimits } from '../transcode/columns/table-limits.ts';
import { IngestThread } from './ingest-thread.ts';
import { type Joined, type MainMethods, rowsOf, type PushedBlock } from './messages.ts';
import { numberOf } from './queue-refusals.ts';
import { SharedMemory, State } from './shared-memory.ts';
import { SpanBalance } from './span-balance.ts';
import { TargetTable } from './target-table.ts';
import { ThreadCount } from './thread-count.ts';

/** How often the state of the queue is written for the threads; besides, it is written whenever they send something. */
const PUBLISH_MS = 50;
/** A thread may transcode for so long before it seals its block: an insert does not wait longer for it. */
const SEAL_MS = 50;
/** Deaths of threads in this time that are reported as a failure. */
const DEATHS_MS = 60_000;
const MANY_DEATHS = 3;
/** How often the loads of the threads are read. */
const LOADS_MS = 1_000;
/** The pause before a thread is started again, while they die often. */
const RESTART_MS = 1_000;
/** What a thread may take to close its ports, and to send the last of its own traces. */
const STOP_MS = 3_000;

/** The ports of senders, in this thread. */
export interface OwnPorts {
  /** Opens them. @param reusePort whether other threads may listen on them, too @throws Error if that is not possible */
  openSenders(reusePort: boolean): Promise<unknown>;
  /** On standby, they end each connection with its first answer. */
  setStandby(isStandby: boolean): void;
}

/**
 * The ingest threads: they receive and parse requests, and send their blocks to the queue of this thread. None with INGEST_THREADS=1. With
 * INGEST_THREADS_MIN=1, this thread does it until it is busy.
 */
@Injectable()
export class IngestThreads extends OpenRequests implements OnApplicationShutdown {
  /** Threads that have ended unexpectedly. */
  deaths = 0;
  /** Called when a thread has started. */
  onStart: (thread: IngestThread) => void = () => {};
  private readonly logger = new Logger('IngestThreads');
  private readonly threads = new Map<number, IngestThread>();
  readonly balance = new SpanBalance();
  private readonly targets: TargetTable | undefined;
  private readonly deathsAtMs: number[] = [];
  private limits: CurrentTableLimits['limits'];
  private readonly count: ThreadCount;
  /** Number of ingest threads that are to run: slots 1 to this one. Those beyond `count.serving` are on standby, or all if that is 1. */
  private wanted: number;
  /** If this thread serves as well. */
  private ownPorts: OwnPorts | undefined;
  private isStandby = false;
  private publishing: NodeJS.Timeout | undefined;
  private lastUse = performance.eventLoopUtilization();
  private isStarted = false;
  private isStopping = false;
  /** The queue may be closed. */
  private isEnded = false;

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    private readonly memory: SharedMemory,
    private readonly own: OwnRequests,
    private readonly queue: BlockQueue,
    private readonly auth: AuthService,
    private readonly transcoders: TranscodeWorkers,
    private readonly pace: InsertPace,
    private readonly unstored: UnstoredRequests,
    private readonly table: CurrentTableLimits,
    private readonly pressure: MemoryPressure,
    private readonly ingest: IngestService,
    private readonly refusals: RefusalLog,
    private readonly tracing: SelfTracing,
    private readonly targetLimits: TargetLimits,
  ) {
    super();
    this.limits = table.limits;
    this.count = new ThreadCount(config.INGEST_THREADS_MIN, config.INGEST_THREADS);
    this.wanted = this.isServedHere ? 0 : config.INGEST_THREADS_MIN;
    if (this.isOn) this.targets = new TargetTable(memory);
  }

  /** Whether there are any. */
  get isOn(): boolean {
    return this.config.INGEST_THREADS > 1;
  }

  /** Whether this thread serves requests until it is busy. */
  private get isServedHere(): boolean {
    return this.config.INGEST_THREADS_MIN === 1;
  }

  /** Number of threads that serve requests; 1: it is this one. */
  get serving(): number {
    const isOwn = this.isServedHere && !this.isStandby;
    return isOwn ? 1 : this.running.filter(({ isServing }) => isServing).length;
  }

  /** Those that run. */
  get running(): readonly IngestThread[] {
    return [...this.threads.values()];
  }

  private get slots(): readonly number[] {
    return Array.from({ length: this.wanted }, (_, at) => at + 1);
  }

  /** Targets that have something in hand, or had a moment ago. */
  get targetCount(): number {
    return this.targets?.size ?? this.targetLimits.targets;
  }

  /** Spans stored although their senders got an error, or no answer because their thread ended. */
  get overdueSpans(): number {
    return this.queue.accounts.storedAfterRefusal + this.balance.stored;
  }

  /** CPU time of the main thread and of each ingest thread, in seconds. */
  async cpuSeconds(): Promise<(readonly [thread: string, seconds: number])[]> {
    const usages = [
      ['main', process.threadCpuUsage()] as const,
      ...this.running.map(({ slot, worker }) => [`ingest-${slot}`, worker.cpuUsage()] as const),
    ];
    const settled = await Promise.allSettled(
      usages.map(async ([thread, usage]) => {
        const { user, system } = await usage;
        return [thread, (user + system) / 1e6] as const;
      }),
    );
    // A thread can end meanwhile.
    return settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  }

  /** Starts the threads. Resolves when all can listen. @throws the error of a thread that ends before */
  async prepare(): Promise<void> {
    this.queue.sealOpenBlock = () => this.seal();
    await Promise.all(this.slots.map((slot) => this.begin(slot)));
  }

  /** Lets all listen at once: connections go to those that listen, and stay there. @throws the error of a thread that can't */
  async listen(own: OwnPorts): Promise<void> {
    if (this.isServedHere) {
      this.ownPorts = own;
      await own.openSenders(true);
    }
    await Promise.all(this.running.map((thread) => listen(thread)));
    this.isStarted = true;
    if (this.config.INGEST_THREADS_MIN < this.config.INGEST_THREADS) setInterval(() => this.adapt(), LOADS_MS).unref();
  }

  /** Why requests are refused by the threads alone, if so. */
  refusal(): Error | undefined {
    if (!this.isOn) return undefined;
    this.publish();
    return this.isStarted && (this.isServedHere || this.running.some(({ isListening }) => isListening)) ? undefined : starting();
  }

  /** Their state, for the health endpoint. */
  describe(): { state: 'ok' | 'failing'; reason?: string; serving: number; most: number; deaths: number } {
    const { dieOften } = this;
    return {
      state: dieOften ? 'failing' : 'ok',
      ...(dieOften && { reason: `${this.recentDeaths()} threads have ended unexpectedly in the last minute; the log has their errors` }),
      serving: this.serving,
      most: this.config.INGEST_THREADS,
      deaths: this.deaths,
    };
  }

  async close(): Promise<void> {
    this.isStopping = true;
    // One that is still starting has no requests.
    const closed = this.running.map((thread) => (thread.isPrepared ? thread.call('close', undefined) : thread.worker.terminate()));
    await Promise.allSettled([this.own.close(), ...closed]);
  }

  async seal(): Promise<void> {
    this.own.seal();
    // Those on standby do so at their own time.
    const open = this.running.filter(({ isServing }) => isServing);
    if (open.length === 0) return;
    const tooLong = new AbortController();
    const sealed = Promise.allSettled(open.map((thread) => thread.call('seal', undefined)));
    await Promise.race([sealed, sleep(SEAL_MS, undefined, { signal: tooLong.signal }).catch(() => {})]);
    tooLong.abort();
  }

  /** Closes their ports, and ends them. */
  async onApplicationShutdown(): Promise<void> {
    this.isStopping = true;
    this.isEnded = true;
    await Promise.all(
      this.running.map(async (thread) => {
        await Promise.race([thread.call('stop', undefined).catch(() => {}), sleep(STOP_MS, undefined, { ref: false })]);
        await thread.worker.terminate();
      }),
    );
  }

  /** Starts a thread. Resolves when it can listen. @throws its error when it ends before */
  private async begin(slot: number): Promise<IngestThread> {
    this.publish();
    this.publishing ??= setInterval(() => this.publish(), PUBLISH_MS).unref();
    const thread = new IngestThread({ buffers: this.memory.buffers, slot, limits: this.table.limits });
    const prepared = Promise.withResolvers<void>();
    thread.answerWith(this.methodsFor(thread, prepared.resolve));
    this.threads.set(slot, thread);
    thread.worker.once('online', () => this.onStart(thread));
    void thread.ended.then((error) => {
      this.takeBack(slot);
      prepared.reject(error ?? new Error(`Ingest thread ${slot} has ended.`));
      if (this.isStarted && !this.isStopping) this.replace(slot, error);
    });
    await prepared.promise;
    thread.isPrepared = true;
    return thread;
  }

  /** If all threads are busy, one more serves; if fewer are enough, the last ones go on standby. */
  private adapt(): void {
    const { serving: before } = this.count;
    const loads = this.slots.map((slot) => this.threads.get(slot)?.load() ?? 0);
    if (!this.count.adapt(this.ownLoad(), loads) || this.isStopping) return;
    const { serving } = this.count;
    for (const thread of this.running) this.setStandby(thread);
    if (serving > this.wanted) {
      const missing = Array.from({ length: serving - this.wanted }, (_, at) => this.wanted + 1 + at);
      this.wanted = serving;
      this.logger.log({ threads: serving, most: this.config.INGEST_THREADS, msg: 'All threads are busy: ingest threads start' });
      void this.add(...missing);
    } else this.spread(this.running.filter(({ slot }) => slot > (before === 1 ? 0 : before)));
  }

  /** The part of the time since the last call that the event loop of this thread was busy. */
  private ownLoad(): number {
    const before = this.lastUse;
    this.lastUse = performance.eventLoopUtilization();
    return performance.eventLoopUtilization(this.lastUse, before).utilization;
  }

  private setStandby(thread: IngestThread): void {
    const isStandby = thread.slot > this.count.serving || this.count.serving === 1;
    // It is told when it is prepared.
    if (isStandby === thread.isStandby || !thread.isPrepared) return;
    thread.isStandby = isStandby;
    thread.tell('standby', isStandby);
  }

  private replace(slot: number, error: Error | undefined): void {
    this.deaths++;
    this.deathsAtMs.push(performance.now());
    this.logger.error({ thread: slot, err: error, deaths: this.deaths, msg: 'An ingest thread has ended, and is started again' });
    if (this.dieOften) setTimeout(() => void this.add(slot), RESTART_MS).unref();
    else void this.add(slot);
  }

  /** Starts threads while others listen. If one ends before it listens, or can't listen, that is a death. */
  private async add(...slots: readonly number[]): Promise<void> {
    if (this.isStopping) return;
    const begun = await Promise.all(slots.map((slot) => this.begin(slot).catch(() => undefined)));
    const threads = begun.filter((thread) => thread !== undefined);
    if (this.isStopping) return;
    for (const thread of threads) this.setStandby(thread);
    await Promise.all(threads.map((thread) => listen(thread).catch(() => thread.worker.terminate())));
    if (!this.dieOften) this.spread(threads);
  }

  /**
   * Lets threads that serve from now on get their share: all others end their connections. Senders connect again, and the kernel spreads
   * these connections over all threads.
   */
  private spread(threads: readonly IngestThread[]): void {
    const isStandby = this.running.some(({ isServing }) => isServing);
    if (isStandby !== this.isStandby) this.ownPorts?.setStandby(isStandby);
    this.isStandby = isStandby;
    if (!threads.some(({ isServing }) => isServing)) return;
    for (const other of this.running) if (!threads.includes(other) && other.isServing) other.tell('endConnections', undefined);
  }

  /** Takes back what a thread that has ended had in hand: its requests and connections are gone. */
  private takeBack(slot: number): void {
    this.threads.delete(slot);
    const cells = this.memory.countsOf(slot);
    resetOpen(cells);
    const { spans } = new RequestCounts(cells);
    this.balance.settle(slot, spans.http.accepted + spans.grpc.accepted);
    this.memory.clear(slot);
    this.targets!.clear(slot);
  }

  private get dieOften(): boolean {
    return this.recentDeaths() >= MANY_DEATHS;
  }

  private recentDeaths(): number {
    const fromMs = performance.now() - DEATHS_MS;
    while (this.deathsAtMs.length > 0 && this.deathsAtMs[0] < fromMs) this.deathsAtMs.shift();
    return this.deathsAtMs.length;
  }

  /** Writes what the threads need to know of the queue and the process. */
  private publish(): void {
    const { queue } = this;
    const { state } = this.memory;
    state[State.refusal] = numberOf(queue.refusal());
    state[State.isDurableAtOnce] = Number(queue.isDurableAtOnce);
    state[State.isQuick] = Number(queue.isQuick);
    state[State.oldestAtMs] = queue.waiting.oldestAtMs;
    state[State.promisedBytes] = this.pressure.promisedBytes;
    this.targets!.sweep();
    if (this.limits === this.table.limits) return;
    this.limits = this.table.limits;
    for (const thread of this.running) thread.tell('limits', this.limits);
  }

  private methodsFor(thread: IngestThread, onPrepared: () => void): MainMethods {
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
        this.publish();
        return transcoded.finally(() => this.publish());
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

  /** With ACK_MODE=received, the rows are acknowledged already. */
  private countPushed(durable: Promise<void>, rows: number, thread: IngestThread): void {
    const isGone = () => thread.isGone;
    const isReceived = this.config.ACK_MODE === 'received';
    void this.balance.count(isReceived ? Promise.resolve() : durable, 0, rows, thread.slot, isGone);
    // A thread that still runs counts what can't be kept. What ClickHouse refuses for good is a dead letter.
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
    this.publish();
    return durable;
  }
}

/** Lets a thread listen. @throws its error, if it can't */
async function listen(thread: IngestThread): Promise<void> {
  await thread.call('listen', undefined);
  thread.isListening = true;
}
