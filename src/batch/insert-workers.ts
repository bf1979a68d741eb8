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

/** How often a dead letter that can't be written is tried again. */
const KEEP_AGAIN_MS = 10_000;

/** Most refused blocks that are searched or wait for their search. A further one is refused as a whole. */
const MAX_SEARCHES = 64;

const LOGGER = new Logger('InsertWorkers');

interface Limits {
  readonly maxSpans: number;
  readonly maxBytes: number;
  readonly maxWorkers: number;
  /** Whether senders may wait for an insert: it is then abandoned after ACK_TIMEOUT_MS. With the disk buffer: only if its disk fails. */
  readonly sendersMayWait: boolean;
  /** Longest wait of the oldest block while no insert is in flight, and while one is. */
  readonly idleWaitMs: number;
  readonly busyWaitMs: number;
}

/** What is known of an insert before it is sent. */
interface SentBefore {
  /** Whether it, or the part that is sent now, may have been sent by an earlier process. */
  readonly mayBeThere: boolean;
  /** Whether other parts of it are already stored. */
  readonly isStoredInPart: boolean;
}

/**
 * Takes blocks from the queue and inserts them, in as few and as large inserts as possible. A single worker is used while it
 * keeps up. Another one starts when all running ones are busy, and the queue holds a full insert or its oldest block has waited
 * long enough.
 */
export class InsertWorkers {
  readonly stats = { refusedRows: 0 };
  private readonly abandonedLine = new RepeatedLine(LOGGER, 'warn', 'An insert was abandoned');
  private readonly refusedForGood = new RepeatedLine(LOGGER, 'error', 'ClickHouse permanently rejects spans');
  private readonly repaired = new RepeatedLine(
    LOGGER,
    'warn',
    'ClickHouse rejected text that is not UTF-8; the text was repaired and stored',
  );
  private readonly notKept = new RepeatedLine(LOGGER, 'error', "A rejected block can't be stored as a dead letter; it stays in the queue");
  private readonly notNoted = new RepeatedLine(
    LOGGER,
    'error',
    "The search for rejected rows is paused: its progress can't be saved in the disk buffer",
  );
  private readonly queue: BlockQueue;
  private readonly storage: StorageService;
  private readonly limits: Limits;
  private readonly pace: InsertPace | undefined;
  private active = 0;
  /** Inserts that wait for the one server that may have stored them. */
  private readonly pinned = new Set<{ readonly server: string; readonly rows: number }>();
  /** Refused blocks that are searched for the refused rows or wait for their search. One is searched at a time. */
  private searches = 0;
  private lastSearch: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private draining = false;
  private drained: PromiseWithResolvers<void> | undefined;

  /** @param pace decides when an insert starts; without it, one starts BATCH_TIMEOUT_MS after the oldest block was queued */
  constructor(queue: BlockQueue, storage: StorageService, config: Config, pace?: InsertPace) {
    this.queue = queue;
    this.storage = storage;
    this.pace = pace;
    this.limits = {
      maxSpans: config.BATCH_MAX_SPANS,
      maxBytes: config.BATCH_MAX_MB * 1024 ** 2,
      maxWorkers: config.BATCH_WORKERS,
      sendersMayWait: config.ACK_MODE === 'durable' && !(config.ENABLE_DISK_BUFFER && config.DISK_BUFFER_ON_ERROR === 'refuse'),
      idleWaitMs: config.BATCH_TIMEOUT_MS,
      // With the disk buffer no sender waits for the insert: a second worker starts only for a full insert.
      busyWaitMs: config.ENABLE_DISK_BUFFER ? Number.POSITIVE_INFINITY : config.BATCH_TIMEOUT_MS,
    };
    queue.onBlock = () => this.schedule();
    if (pace !== undefined) pace.onRequest = () => this.schedule();
    // Blocks of the last process in the disk buffer must not wait for a new block: a full buffer accepts none.
    this.schedule();
  }

  /** The number of inserts in flight. */
  get busy(): number {
    return this.active;
  }

  /** Spans of inserts that wait for the one server that may have stored them, by its `Endpoint.deduplicationDomain`. */
  get pinnedSpans(): Readonly<Record<string, number>> {
    const spans: Record<string, number> = {};
    for (const { server, rows } of this.pinned) spans[server] = (spans[server] ?? 0) + rows;
    return spans;
  }

  /** Starts inserts without waiting from now on. Resolves when the queue is empty and all inserts have ended. */
  drain(): Promise<void> {
    this.draining = true;
    this.schedule();
    if (this.isEmpty()) return Promise.resolve();
    this.drained ??= Promise.withResolvers<void>();
    return this.drained.promise;
  }

  private schedule(): void {
    const { waiting } = this.queue;
    // The oldest request is older than the oldest block while it is in the open block.
    const oldestAtMs = Math.min(waiting.oldestAtMs, this.pace?.oldestAtMs ?? Number.POSITIVE_INFINITY);
    if (oldestAtMs === Number.POSITIVE_INFINITY || this.active >= this.limits.maxWorkers) return;
    const waitMs = this.remainingWaitMs(oldestAtMs, waiting.rows, waiting.bytes);
    if (waitMs <= 0) {
      this.start();
      return;
    }
    // `schedule` is called again when a worker becomes free.
    if (waitMs === Number.POSITIVE_INFINITY) return;
    // A running timer is kept: most often the due time has only moved to later, and the timer then schedules again.
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      // After the poll phase: if the event loop was blocked, requests that belong into this insert may not be read yet.
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
      this.pace.startInsert();
      // The insert takes all requests that have come.
      const sealing = this.queue.sealOpenBlock();
      if (sealing !== undefined) return this.startAfter(sealing);
    }
    this.startWaiting();
  }

  /** Starts an insert when the blocks that other threads have open are queued. */
  private startAfter(sealing: Promise<void>): void {
    this.active++;
    void sealing.then(() => {
      this.active--;
      this.pace?.startInsert();
      this.startWaiting();
      if (this.isEmpty()) this.drained?.resolve();
    });
  }

  private startWaiting(): void {
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

  /** Sends an insert until it is stored, refused, or no longer wanted, and ends it in the queue. */
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
      this.abandonedLine.write({ rows: insert.rows, reason: (error as Error).message });
    }
    this.queue.release(insert, 0);
  }

  /**
   * Ends an insert that is no longer wanted.
   * @param storedRows rows that a failed attempt left in the table
   * @param insertedRows rows of the parts that were inserted
   */
  private abandoned(insert: Insert, storedRows: number, insertedRows = 0): void {
    this.storage.countStoredRows(storedRows);
    this.queue.release(insert, storedRows + insertedRows);
  }

  /**
   * Sends an insert, or a part of it, until ClickHouse stores it, refuses it twice, or it is no longer wanted.
   * @throws Error when it can't be sent any more: the disk buffer is closed, or the collector stops
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
      if (status === 'retry' && !error.nothingStored) {
        sentTo = endpoint.deduplicationDomain;
        isRepeated = true;
      }
      // Counted now, before the refused senders retry: their retries store the same spans again.
      if (error.maybePartlyStored && this.limits.sendersMayWait) storedRows ??= await endpoint.countStored(frames);
      // A single refusal may come from a proxy that corrupted the request: the second attempt decides.
      if (status === 'retry' || ++refusals < 2) continue;
      return { status: 'refused', refused: { error, server: endpoint.deduplicationDomain } };
    }
  }

  /** Waits for a server. While an insert waits for the one server of several that may have stored it, its worker is free for others. */
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

  /** Waits for the server that may have stored an insert; for any server if there is none. */
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

  /** Sends the halves of an insert that ClickHouse has refused twice, recursively, until each refused block is alone. */
  private async runHalves(insert: Insert): Promise<void> {
    for (const half of this.queue.split(insert)) await this.run(half);
  }

  /** Queues a block for the search for its refused rows. The worker does not wait for the search. */
  private async beginSearch(insert: Insert, refusal: Refused | undefined): Promise<void> {
    if (refusal !== undefined && this.searches >= MAX_SEARCHES) return this.refused(insert, refusal);
    this.searches++;
    this.lastSearch = this.lastSearch
      .then(() => this.search(insert, refusal))
      .catch((error: Error) => {
        this.abandonedLine.write({ rows: insert.rows, reason: error.message });
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
        // The earlier process could decode it: the disk buffer is damaged.
        if (refusal === undefined) throw new Error("a block that was split before can't be decoded");
        await this.refused(insert, refusal);
        return;
      case 'unwanted':
        this.abandoned(insert, searched.storedRows, searched.insertedRows);
    }
  }

  /** Records a step of a search, with retries: nothing is sent before the step is on the disk. */
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

  /** Calls `keep` until it succeeds. Until then the block stays in the queue, and is sent again after a restart. No worker waits for it. */
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

/** Starts the span of an attempt to insert; undefined if none of its blocks is traced. */
function traceInsert({ blocks, rows, bytes }: Insert, server: string): InsertTrace | undefined {
  const [first, ...others] = blocks.flatMap(({ trace }) => trace ?? []);
  return first?.startInsert(others, server, {
    'hive_collector.blocks': blocks.length,
    'hive_collector.spans': rows,
    'hive_collector.bytes': bytes,
  });
}
