import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { Config } from '../config/variables.ts';
import type { BlockQueue, Refused, SearchJournal } from '../queue/block-queue.ts';
import type { Insert } from '../queue/block.ts';
import type { SearchStep } from '../queue/search-step.ts';
import type { Endpoint } from '../storage/endpoint.ts';
import type { StorageService } from '../storage/storage.service.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import type { InsertTrace } from '../tracing/block-trace.ts';
import { searchBlock, type Sent } from './block-search.ts';
import type { InsertPace } from './insert-pace.ts';

/** A refused block that can't be kept as a dead letter for now is offered again this often. */
const KEEP_AGAIN_MS = 10_000;

/** Refused blocks that wait to be searched, and the one that is. Of one more, nothing is stored: it is refused as a whole. */
const MAX_SEARCHES = 64;

const LOGGER = new Logger('InsertWorkers');

interface Limits {
  readonly maxSpans: number;
  readonly maxBytes: number;
  readonly maxWorkers: number;
  /** Whether senders wait for inserts, which are given up after a while. */
  readonly sendersWait: boolean;
  /** Longest wait of the oldest block while no insert is under way, and while one is. */
  readonly idleWaitMs: number;
  readonly busyWaitMs: number;
}

/** What has become of an insert so far. */
interface SentBefore {
  /** Whether it, or the part that is sent now, may have been sent before. */
  readonly mayBeThere: boolean;
  /** Whether other parts of it are stored. */
  readonly isStoredInPart: boolean;
}

/**
 * Takes blocks off the queue and inserts them, as few and as large inserts as it can. One worker does it as long as it
 * keeps up; the others start when the queue holds a full insert, or its oldest block has waited its time, while all
 * that run are busy.
 */
export class InsertWorkers {
  readonly stats = { refusedRows: 0 };
  private readonly givenUp = new RepeatedLine(LOGGER, 'warn', 'An insert was given up');
  private readonly refusedForGood = new RepeatedLine(LOGGER, 'error', 'ClickHouse refuses spans for good');
  private readonly repaired = new RepeatedLine(LOGGER, 'warn', 'ClickHouse refused text that is not UTF-8; it was repaired and is stored');
  private readonly notKept = new RepeatedLine(LOGGER, 'error', 'A refused block can not be kept as a dead letter, and stays in the queue');
  private readonly notNoted = new RepeatedLine(
    LOGGER,
    'error',
    'The search of a refused block can not be noted in the disk buffer, and waits',
  );
  private readonly queue: BlockQueue;
  private readonly storage: StorageService;
  private readonly limits: Limits;
  private readonly pace: InsertPace | undefined;
  private active = 0;
  /** Inserts that wait for a certain server. */
  private readonly pinned = new Set<{ readonly server: string; readonly rows: number }>();
  /** Refused blocks that are searched for the rows at fault, one after the other, and those that wait for it. */
  private searches = 0;
  private lastSearch: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private draining = false;
  private drained: PromiseWithResolvers<void> | undefined;

  /** @param pace when inserts are due that senders wait for; without it, BATCH_TIMEOUT_MS after the oldest block came */
  constructor(queue: BlockQueue, storage: StorageService, config: Config, pace?: InsertPace) {
    this.queue = queue;
    this.storage = storage;
    this.pace = pace;
    this.limits = {
      maxSpans: config.BATCH_MAX_SPANS,
      maxBytes: config.BATCH_MAX_MB * 1024 ** 2,
      maxWorkers: config.BATCH_WORKERS,
      sendersWait: config.ACK_MODE === 'durable' && !(config.ENABLE_DISK_BUFFER && config.DISK_BUFFER_ON_ERROR === 'refuse'),
      idleWaitMs: config.BATCH_TIMEOUT_MS,
      // With the disk buffer nobody waits for the insert: a second worker starts only when there is a full insert for it.
      busyWaitMs: config.ENABLE_DISK_BUFFER ? Number.POSITIVE_INFINITY : config.BATCH_TIMEOUT_MS,
    };
    queue.onBlock = () => this.schedule();
    if (pace !== undefined) pace.onRequest = () => this.schedule();
    // What the last process has left in the disk buffer waits for no new block, which a full one would not even take.
    this.schedule();
  }

  /** Inserts under way. */
  get busy(): number {
    return this.active;
  }

  /** Spans of inserts that one server may have, and that wait until it is back, by its `Endpoint.deduplicationDomain`. */
  get pinnedSpans(): Readonly<Record<string, number>> {
    const spans: Record<string, number> = {};
    for (const { server, rows } of this.pinned) spans[server] = (spans[server] ?? 0) + rows;
    return spans;
  }

  /** From now on nothing waits for other requests. Resolves when the queue is empty and all inserts have ended. */
  drain(): Promise<void> {
    this.draining = true;
    this.schedule();
    if (this.isEmpty()) return Promise.resolve();
    this.drained ??= Promise.withResolvers<void>();
    return this.drained.promise;
  }

  private schedule(): void {
    const { waiting } = this.queue;
    // Earlier than the oldest block, if the request is in the open block.
    const oldestAtMs = Math.min(waiting.oldestAtMs, this.pace?.oldestAtMs ?? Number.POSITIVE_INFINITY);
    if (oldestAtMs === Number.POSITIVE_INFINITY || this.active >= this.limits.maxWorkers) return;
    const waitMs = this.remainingWaitMs(oldestAtMs, waiting.rows, waiting.bytes);
    if (waitMs <= 0) {
      this.start();
      return;
    }
    // A worker that becomes free looks again.
    if (waitMs === Number.POSITIVE_INFINITY) return;
    // Set anew only when it is due: mostly, what is due has only become later.
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      // Not now: if the event loop was held up, requests wait to be read that may be worth waiting for.
      setImmediate(() => this.schedule());
    }, Math.ceil(waitMs));
  }

  private remainingWaitMs(oldestAtMs: number, rows: number, bytes: number): number {
    const { limits } = this;
    if (this.draining || rows >= limits.maxSpans || bytes >= limits.maxBytes) return 0;
    return oldestAtMs + (this.active === 0 ? this.idleWaitMs(oldestAtMs) : limits.busyWaitMs) - performance.now();
  }

  private idleWaitMs(oldestAtMs: number): number {
    if (this.queue.isShortOfRoom) return 0;
    return this.pace?.waitMs(oldestAtMs) ?? this.limits.idleWaitMs;
  }

  private start(): void {
    if (this.pace !== undefined) {
      this.pace.taken();
      // What has come goes along.
      this.queue.sealOpenBlock();
    }
    const insert = this.queue.take(this.limits.maxSpans, this.limits.maxBytes);
    if (insert === undefined) return;
    this.active++;
    void this.run(insert).finally(() => {
      this.active--;
      clearTimeout(this.timer);
      this.timer = undefined;
      this.schedule();
      if (this.isEmpty()) this.drained?.resolve();
    });
    this.schedule();
  }

  /** Sends an insert until ClickHouse has it, or it is no longer wanted. */
  private async run(insert: Insert): Promise<void> {
    if (insert.isSearched === true) return this.beginSearch(insert, undefined);
    try {
      const sent = await this.send(insert, insert, { mayBeThere: insert.sentTo !== undefined, isStoredInPart: false }, (sentTo) =>
        this.endpointFor(sentTo, insert.rows),
      );
      if (sent.status === 'inserted') return this.queue.confirm(insert);
      if (sent.status === 'refused')
        return await (insert.blocks.length > 1 ? this.runHalves(insert) : this.beginSearch(insert, sent.refused));
      return this.abandoned(insert, sent.storedRows);
    } catch (error) {
      this.givenUp.write({ rows: insert.rows, reason: (error as Error).message });
    }
    this.queue.release(insert, 0);
  }

  /**
   * @param storedRows what a failed attempt left in the table
   * @param insertedRows what parts of it were inserted
   */
  private abandoned(insert: Insert, storedRows: number, insertedRows = 0): void {
    this.storage.leftBehind(storedRows);
    this.queue.release(insert, storedRows + insertedRows);
  }

  /**
   * Sends an insert, or a part of it, until ClickHouse has it, refuses it twice, or nobody wants it.
   * @throws Error when it can't be sent any more
   */
  private async send(
    insert: Insert,
    part: Insert,
    before: SentBefore,
    endpointFor: (sentTo: string | undefined) => Promise<Endpoint>,
  ): Promise<Sent> {
    const { blocks, rows, token } = part;
    const frames = blocks.map((block) => block.frame);
    let { sentTo } = part;
    let isRepeated = before.mayBeThere;
    let refusals = 0;
    let storedRows: number | undefined;
    for (;;) {
      const endpoint = await endpointFor(sentTo);
      if (!this.queue.isWanted(insert, before.isStoredInPart)) return { status: 'unwanted', storedRows: storedRows ?? 0 };
      await this.queue.prepare(insert, endpoint.deduplicationDomain);
      const trace = traceInsert(part, endpoint.name);
      const outcome = await this.storage.insert(endpoint, frames, token, rows, isRepeated);
      trace?.end(outcome.status === 'inserted' ? undefined : outcome.error.code);
      if (outcome.status === 'inserted') return { status: 'inserted', server: endpoint.deduplicationDomain };
      const { status, error } = outcome;
      if (status === 'retry' && !error.untouched) {
        sentTo = endpoint.deduplicationDomain;
        isRepeated = true;
      }
      // At once: senders that are refused send the same spans again.
      if (error.halfDone && this.limits.sendersWait) storedRows ??= await endpoint.countStored(frames);
      // Once may be a proxy that has garbled what is stored already.
      if (status === 'retry' || ++refusals < 2) continue;
      return { status: 'refused', refused: { error, server: endpoint.deduplicationDomain } };
    }
  }

  /** While an insert waits for the one server of several that may have it, its worker is free for others. */
  private async endpointFor(sentTo: string | undefined, rows: number): Promise<Endpoint> {
    const { availability } = this.storage;
    if (sentTo === undefined || availability.all.length === 1) return availability.ready(sentTo);
    this.active--;
    this.schedule();
    try {
      return await this.pinnedEndpoint(sentTo, rows);
    } finally {
      this.active++;
    }
  }

  /** The server that may have an insert, when it is there. */
  private async pinnedEndpoint(sentTo: string | undefined, rows: number): Promise<Endpoint> {
    if (sentTo === undefined) return this.storage.availability.ready(sentTo);
    const waiting = { server: sentTo, rows };
    this.pinned.add(waiting);
    try {
      return await this.storage.availability.ready(sentTo);
    } finally {
      this.pinned.delete(waiting);
    }
  }

  /** Halves an insert that ClickHouse has refused twice until the block that it can't take is alone. */
  private async runHalves(insert: Insert): Promise<void> {
    for (const half of this.queue.split(insert)) await this.run(half);
  }

  /** Has a block searched for the rows at fault, when those before it are done. No worker waits for it. */
  private async beginSearch(insert: Insert, refusal: Refused | undefined): Promise<void> {
    if (refusal !== undefined && this.searches >= MAX_SEARCHES) return this.refused(insert, refusal);
    this.searches++;
    this.lastSearch = this.lastSearch
      .then(() => this.search(insert, refusal))
      .catch((error: Error) => {
        this.givenUp.write({ rows: insert.rows, reason: error.message });
        this.queue.release(insert, 0);
      })
      .finally(() => {
        this.searches--;
        if (this.isEmpty()) this.drained?.resolve();
      });
  }

  private async search(insert: Insert, refusal: Refused | undefined): Promise<void> {
    if (!this.queue.isWanted(insert, false)) return this.queue.release(insert, 0);
    const journal = this.queue.journal(insert);
    const searched = await searchBlock(insert, refusal, journal?.steps ?? [], {
      send: (part, mayBeThere, isStoredInPart) =>
        this.send(insert, part, { mayBeThere, isStoredInPart }, (sentTo) => this.pinnedEndpoint(sentTo, part.rows)),
      jsonColumns: async (server) => (await this.pinnedEndpoint(server, insert.rows)).jsonColumns().catch(() => []),
      note: (step) => this.note(journal, step),
    });
    switch (searched.status) {
      case 'inserted':
        if (searched.repaired) this.repaired.write({ rows: insert.rows });
        await this.queue.confirmExcept(insert, []);
        return;
      case 'searched':
        for (const { insert: part, refused } of searched.refused) this.countRefused(part, refused);
        await this.keep(insert, () => this.queue.confirmExcept(insert, searched.refused));
        return;
      case 'opaque':
        // What was searched before was not so: the disk buffer is damaged.
        if (refusal === undefined) throw new Error('a block that was taken apart before can not be decoded');
        await this.refused(insert, refusal);
        return;
      case 'unwanted':
        this.abandoned(insert, searched.storedRows, searched.insertedRows);
    }
  }

  /** Nothing is sent before the step is safe. */
  private async note(journal: SearchJournal | undefined, step: SearchStep): Promise<void> {
    for (;;) {
      try {
        await journal?.add(step);
        return;
      } catch (error) {
        this.notNoted.write({ reason: (error as Error).message });
        await sleep(KEEP_AGAIN_MS, undefined, { ref: false });
      }
    }
  }

  private async refused(insert: Insert, refusal: Refused): Promise<void> {
    this.countRefused(insert, refusal);
    await this.keep(insert, () => this.queue.reject(insert, refusal));
  }

  private countRefused({ rows }: Insert, { error }: Refused): void {
    this.refusedForGood.write({ rows, code: error.code, reason: error.message });
    this.stats.refusedRows += rows;
  }

  /** What can't be kept now stays in the queue. No worker waits for it, and after a restart it is sent once more. */
  private async keep(insert: Insert, keep: () => Promise<void>): Promise<void> {
    try {
      await keep();
    } catch (error) {
      this.notKept.write({ rows: insert.rows, reason: (error as Error).message });
      setTimeout(() => void this.keep(insert, keep), KEEP_AGAIN_MS).unref();
    }
  }

  private isEmpty(): boolean {
    return this.active === 0 && this.searches === 0 && this.pinned.size === 0 && this.queue.waiting.blocks === 0;
  }
}

/** Begins the span of an attempt to insert; undefined if no block in it is traced. */
function traceInsert({ blocks, rows, bytes }: Insert, server: string): InsertTrace | undefined {
  const [first, ...others] = blocks.flatMap(({ trace }) => trace ?? []);
  return first?.startInsert(others, server, {
    'hive_collector.blocks': blocks.length,
    'hive_collector.spans': rows,
    'hive_collector.bytes': bytes,
  });
}
