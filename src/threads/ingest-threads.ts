import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { TargetLimits } from '../bodies/target-limits.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { OpenRequests, OwnRequests } from '../ingest/open-requests.ts';
import { starting } from '../otlp/refusal.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { loopUtilization } from '../runtime/loop-utilization.ts';
import { canSteer } from '../runtime/reuse-port.ts';
import { RequestCounts, resetOpen } from '../telemetry/request-counts.ts';
import { CurrentTableLimits } from '../transcode/columns/table-limits.ts';
import { ThreadHandle } from './thread-handle.ts';
import { QueueState } from './queue-state.ts';
import { SharedMemory } from './shared-memory.ts';
import { TargetTable } from './target-table.ts';
import { ThreadAnswers } from './thread-answers.ts';
import { ThreadCount } from './thread-count.ts';

/** How often the state of the queue is written to the shared memory. Also when a thread pushes a block or sends a large body. */
const PUBLISH_MS = 50;
/** Longest time that an insert waits for ingest threads to seal their open blocks. */
const SEAL_MS = 50;
/** /health reports a failure if MANY_DEATHS threads have ended unexpectedly within this time. */
const DEATHS_MS = 60_000;
const MANY_DEATHS = 3;
/** How often the loads of the threads are read. */
const LOADS_MS = 1_000;
/** The pause before a thread is started again after MANY_DEATHS. */
const RESTART_MS = 1_000;
/** Longest time for a thread to close its ports and to send its last self-tracing spans; then it is terminated. */
const STOP_MS = 3_000;

/** The ports of senders, in this thread. */
export interface OwnPorts {
  /** Opens them. @param reusePort whether other threads may listen on them, too @throws Error if that is not possible */
  openSenders(reusePort: boolean): Promise<unknown>;
  /** On standby, they end each connection with its first answer. */
  setStandby(isStandby: boolean): void;
  /** Lets the kernel assign new connections to some threads. @param sockets see steerConnections */
  steer(sockets: readonly number[]): void;
}

/**
 * The ingest threads: they receive and parse requests, and send their blocks to the queue of the main thread. With INGEST_THREADS=1 there
 * are none. With INGEST_THREADS_MIN=1, the main thread serves alone until it is busy.
 */
@Injectable()
export class IngestThreads extends OpenRequests implements OnApplicationShutdown {
  /** The file that each thread runs. Must be set before `prepare`. */
  program: URL | undefined;
  /** Threads that have ended unexpectedly. */
  deaths = 0;
  /** Called when a thread has started. */
  onStart: (thread: ThreadHandle) => void = () => {};
  private readonly logger = new Logger('IngestThreads');
  private readonly threads = new Map<number, ThreadHandle>();
  private readonly targets: TargetTable | undefined;
  private readonly deathsAtMs: number[] = [];
  private limits: CurrentTableLimits['limits'];
  private readonly count: ThreadCount;
  /** Number of ingest threads that run, in slots 1 to `wanted`. Slots above `count.serving` are on standby; all slots if that is 1. */
  private wanted: number;
  /** The ports of the main thread; undefined if only ingest threads serve. */
  private ownPorts: OwnPorts | undefined;
  private isStandby = false;
  /** The slots of the threads that listen, by the numbers that the kernel gives to their sockets (steerConnections). */
  private readonly listeningSlots: number[] = [];
  private lastListen = Promise.resolve();
  private publishing: NodeJS.Timeout | undefined;
  /** The fraction of the time since the last call in which the event loop of this thread was busy. */
  private readonly ownLoad = loopUtilization();
  private isStarted = false;
  private isStopping = false;

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    private readonly memory: SharedMemory,
    private readonly own: OwnRequests,
    private readonly queue: BlockQueue,
    private readonly state: QueueState,
    private readonly answers: ThreadAnswers,
    private readonly table: CurrentTableLimits,
    private readonly targetLimits: TargetLimits,
  ) {
    super();
    this.limits = table.limits;
    this.count = new ThreadCount(config.INGEST_THREADS_MIN, config.INGEST_THREADS);
    this.wanted = this.isServedHere ? 0 : config.INGEST_THREADS_MIN;
    if (this.isOn) this.targets = new TargetTable(memory);
  }

  /** Whether there may be ingest threads (INGEST_THREADS > 1). */
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

  /** The ingest threads that are starting or running. */
  get running(): readonly ThreadHandle[] {
    return [...this.threads.values()];
  }

  private get slots(): readonly number[] {
    return Array.from({ length: this.wanted }, (_, at) => at + 1);
  }

  /** The number of targets that have requests or memory in use, or had until a moment ago. */
  get targetCount(): number {
    return this.targets?.size ?? this.targetLimits.targets;
  }

  /** Spans stored although their senders got an error, or no answer because their thread ended. */
  get overdueSpans(): number {
    return this.queue.accounts.storedAfterRefusal + this.answers.balance.stored;
  }

  /** Spans lost because the thread that had acknowledged them ended (ACK_MODE=received). */
  get lostSpans(): number {
    return this.answers.balance.lost;
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
    // Looked up now, so that the start names it if it is missing.
    canSteer();
    this.queue.sealOpenBlock = () => this.seal();
    await Promise.all(this.slots.map((slot) => this.begin(slot)));
  }

  /**
   * Starts listening in all threads, after all are prepared: a connection stays with the thread that has accepted it.
   * @throws the error of a thread that can't listen
   */
  async listen(own: OwnPorts): Promise<void> {
    if (this.isServedHere) {
      this.ownPorts = own;
      await own.openSenders(true);
      this.listeningSlots.push(0);
    }
    await Promise.all(this.running.map((thread) => this.listenIn(thread)));
    this.isStarted = true;
    if (this.config.INGEST_THREADS_MIN < this.config.INGEST_THREADS) setInterval(() => this.adapt(), LOADS_MS).unref();
  }

  /** The refusal (503) until the threads have started, and while no thread listens; undefined if requests are admitted. */
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
    // Threads on standby seal their blocks after SEAL_INTERVAL_MS, as always.
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
    this.answers.isEnded = true;
    await Promise.all(
      this.running.map(async (thread) => {
        await Promise.race([thread.call('stop', undefined).catch(() => {}), sleep(STOP_MS, undefined, { ref: false })]);
        await thread.worker.terminate();
      }),
    );
  }

  /** Starts a thread. Resolves when it can listen. @throws its error when it ends before */
  private async begin(slot: number): Promise<ThreadHandle> {
    this.publish();
    this.publishing ??= setInterval(() => this.publish(), PUBLISH_MS).unref();
    const thread = new ThreadHandle(this.program!, { buffers: this.memory.buffers, slot, limits: this.table.limits });
    const prepared = Promise.withResolvers<void>();
    thread.answerWith(this.answers.for(thread, prepared.resolve));
    this.threads.set(slot, thread);
    thread.worker.once('online', () => this.onStart(thread));
    void thread.ended.then((error) => {
      this.remove(slot);
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

  private setStandby(thread: ThreadHandle): void {
    const isStandby = thread.slot > this.count.serving || this.count.serving === 1;
    // A thread that is still starting gets the message when it is prepared.
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
    await Promise.all(threads.map((thread) => this.listenIn(thread).catch(() => thread.worker.terminate())));
    if (this.dieOften) this.steer();
    else this.spread(threads);
  }

  /**
   * Lets threads that serve from now on get their share: all others end their connections. Senders connect again, and the kernel spreads
   * these connections over all threads.
   */
  private spread(threads: readonly ThreadHandle[]): void {
    const isStandby = this.running.some(({ isServing }) => isServing);
    if (isStandby !== this.isStandby) this.ownPorts?.setStandby(isStandby);
    this.isStandby = isStandby;
    this.steer();
    if (!threads.some(({ isServing }) => isServing)) return;
    for (const other of this.running) if (!threads.includes(other) && other.isServing) other.tell('endConnections', undefined);
  }

  /** Lets a thread listen; one after the other, so that the order is known. @throws its error, if it can't */
  private listenIn(thread: ThreadHandle): Promise<void> {
    const listening = this.lastListen.then(async () => {
      await thread.call('listen', undefined);
      thread.isListening = true;
      this.listeningSlots.push(thread.slot);
    });
    this.lastListen = listening.catch(() => {});
    return listening;
  }

  /** Lets the kernel assign new connections to the threads that serve. */
  private steer(): void {
    const isServing = (slot: number) => (slot === 0 ? !this.isStandby : this.threads.get(slot)?.isServing === true);
    const sockets = [...this.listeningSlots.keys()].filter((number) => isServing(this.listeningSlots[number]));
    if (sockets.length === 0 || this.listeningSlots.length === 1) return;
    if (this.ownPorts !== undefined) this.ownPorts.steer(sockets);
    else this.threads.get(this.listeningSlots[sockets[0]])!.tell('steer', sockets);
  }

  /** Removes a thread that has ended: resets its open requests and connections, and releases its memory in the shared counts. */
  private remove(slot: number): void {
    this.threads.delete(slot);
    const number = this.listeningSlots.indexOf(slot);
    const last = number < 0 ? undefined : this.listeningSlots.pop();
    if (last !== undefined && last !== slot) this.listeningSlots[number] = last;
    this.steer();
    const cells = this.memory.countsOf(slot);
    resetOpen(cells);
    const { spans } = new RequestCounts(cells);
    this.answers.balance.settle(slot, spans.http.accepted + spans.grpc.accepted);
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

  /** Writes the state of the queue to the shared memory, and sends the table limits to the threads if they have changed. */
  private publish(): void {
    this.state.publish();
    this.targets!.sweep();
    if (this.limits === this.table.limits) return;
    this.limits = this.table.limits;
    for (const thread of this.running) thread.tell('limits', this.limits);
  }
}
