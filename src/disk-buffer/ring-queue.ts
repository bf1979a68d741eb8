import { diskBufferFailed, diskBufferFull, largerThanDiskBuffer } from '../otlp/refusal.ts';
import {
  type Abandoned,
  BlockQueue,
  type SpanAccounts,
  type KeepDeadLetter,
  type Refused,
  type RefusedPart,
  type SearchJournal,
  type Waiting,
} from '../queue/block-queue.ts';
import { insertOf, type Block, type Insert, type QueuedBlock } from '../queue/block.ts';
import { Watermark } from '../queue/watermark.ts';
import type { BlockTrace } from '../tracing/block-trace.ts';
import { countRows } from '../transcode/native/native-rows.ts';
import { GroupCommit } from './group-commit.ts';
import { recordBytes, State } from './record.ts';
import { type Assignment, type Ring, type RingRecord, tokenOf } from './ring.ts';
import type { SearchJournals } from './search-journals.ts';
import type { ServerNames } from './server-names.ts';

/** Fill from which new requests are refused, and below which they are accepted again. */
const HIGH_MARK = 0.95;
const LOW_MARK = 0.85;
const SYNC_INTERVAL_MS = 1000;

/** Most traced blocks kept until they are inserted. The inserts of further ones, which an outage may bring, are not traced. */
const MAX_TRACES = 1_000;

/** DISK_BUFFER_SYNC. */
export type SyncMode = 'none' | 'interval' | 'always';
/** ACK_MODE. */
export type AckMode = 'durable' | 'received';

interface RingInsert extends Insert {
  readonly assignment: Assignment;
}

/**
 * The queue on disk: a block is durable when it is in the ring. Inserts that were in flight when the last process ended are taken
 * first, with the same bytes and the same token.
 */
export class RingQueue extends BlockQueue {
  readonly isDurableAtOnce = true;
  readonly isQuick = true;
  readonly stats = { replayedRows: 0, syncFailures: 0, insertedRows: 0 };
  private readonly ring: Ring;
  private readonly servers: ServerNames;
  private readonly mode: SyncMode;
  private readonly commits: GroupCommit;
  private readonly keepDeadLetter: KeepDeadLetter;
  private readonly ackMode: AckMode;
  private readonly journals: SearchJournals | undefined;
  private readonly replays: Assignment[];
  private readonly timer: NodeJS.Timeout | undefined;
  private readonly watermark = new Watermark(HIGH_MARK, LOW_MARK);
  /**
   * Rows that an earlier process stored of inserts to replay, by token: its search for refused rows had ended, but the insert was not
   * marked as complete. Nothing of these inserts is sent again.
   */
  private readonly storedRows: ReadonlyMap<string, number>;
  private readonly recoveredRows: number;
  /** Rows in the ring that are not stored yet. */
  private heldRows: number;
  private storedAfterRefusal = 0;
  /** Traces of blocks, by the offsets of their records: the ring does not hold them. */
  private readonly traces = new Map<number, BlockTrace>();
  private readonly keptParts = new WeakSet<RefusedPart>();
  private failure: Error | undefined;
  /** Whether the ring is closed. An insert that ends later must not change the file: another process may have it open. */
  private closed = false;

  constructor(
    ring: Ring,
    servers: ServerNames,
    mode: SyncMode,
    keepDeadLetter: KeepDeadLetter,
    ackMode: AckMode = 'durable',
    journals?: SearchJournals,
  ) {
    super();
    this.ring = ring;
    this.servers = servers;
    this.mode = mode;
    this.commits = new GroupCommit(ring);
    this.keepDeadLetter = keepDeadLetter;
    this.ackMode = ackMode;
    this.journals = journals;
    this.replays = [...ring.replays];
    const replayed = this.replays.map((replay) => this.insertOf(replay));
    journals?.keepOnly(new Set(replayed.map(({ token }) => token)));
    this.storedRows = new Map(
      replayed.flatMap(({ token, rows }) => {
        const last = journals?.read(token)?.at(-1);
        return last?.kind === 'ended' ? [[token, last.refused.reduce((stored, { ranges }) => stored - countRows(ranges), rows)]] : [];
      }),
    );
    this.recoveredRows = this.waiting.rows - this.storedRows.values().reduce((sum, rows) => sum + rows, 0);
    this.heldRows = this.recoveredRows;
    if (mode !== 'none') this.timer = setInterval(() => this.tick(), SYNC_INTERVAL_MS).unref();
  }

  get waiting(): Waiting {
    const { blocks, rows, bytes } = this.ring.waiting;
    const replayed = this.replays.flatMap(({ records }) => records);
    const writtenAtMs = replayed[0]?.writtenAtMs ?? this.ring.oldestWaitingAtMs;
    return {
      blocks: blocks + replayed.length,
      rows: replayed.reduce((sum, record) => sum + record.rows, rows),
      bytes: replayed.reduce((sum, record) => sum + record.frame.length, bytes),
      oldestAtMs: writtenAtMs === undefined ? Number.POSITIVE_INFINITY : sinceStart(writtenAtMs),
    };
  }

  get capacityBytes(): number {
    return this.ring.capacityBytes;
  }

  get accounts(): SpanAccounts {
    return { buffered: this.heldRows, recovered: this.recoveredRows, storedAfterRefusal: this.storedAfterRefusal };
  }

  /** The error of the last commit, while the ring's disk fails. */
  get diskFailure(): Error | undefined {
    return this.failure;
  }

  push({ frame, rows, trace }: QueuedBlock): Promise<void> {
    // The file is unlocked: another process may have it open.
    if (this.closed) return Promise.reject(diskBufferFailed());
    if (!this.ring.fits(frame.length)) return Promise.reject(largerThanDiskBuffer());
    const range = this.ring.append(frame, rows, Date.now());
    if (range === undefined) {
      this.watermark.raise();
      return Promise.reject(diskBufferFull());
    }
    if (trace !== undefined && this.traces.size < MAX_TRACES) this.traces.set(range.from, trace);
    this.heldRows += rows;
    this.onBlock();
    if (this.mode === 'none') return DONE;
    this.commits.markChanged(range);
    if (this.mode === 'interval') return DONE;
    if (this.ackMode === 'durable') return this.commitWith(rows);
    // Its requests are answered 200. If the commit fails, the block stays in the ring and is inserted: it counts as neither lost nor
    // stored after a refusal.
    this.commitUnattended();
    return DONE;
  }

  refusal(): Error | undefined {
    if (this.failure !== undefined) return diskBufferFailed();
    return this.watermark.isAbove(this.ring.usedBytes / this.ring.capacityBytes) ? diskBufferFull() : undefined;
  }

  take(maxRows: number, maxBytes: number): Insert | undefined {
    const replay = this.replays.shift();
    if (replay !== undefined) {
      const taken = this.insertOf(replay);
      const insert = { ...taken, isSearched: this.journals?.read(taken.token) !== undefined };
      if (!this.storedRows.has(insert.token)) this.stats.replayedRows += insert.rows;
      return insert;
    }
    const assignment = this.ring.take(maxRows, maxBytes);
    return assignment === undefined ? undefined : this.insertOf(assignment);
  }

  /** With DISK_BUFFER_SYNC=always, the assignment of an insert is on the disk before the insert is sent. */
  async prepare(insert: Insert, server: string): Promise<void> {
    const number = this.servers.numberOf(server) || (await this.servers.newNumberOf(server));
    if (this.closed) throw new Error('the disk buffer is closed');
    this.ring.setServer((insert as RingInsert).assignment, number);
    if (this.mode !== 'always') return;
    // Whole records, although only headers have changed: adjacent records are one range, and one sync.
    for (const { offset, frame } of (insert as RingInsert).assignment.records)
      this.commits.markChanged({ from: offset, to: offset + recordBytes(frame.length) });
    // A failing disk shows in `diskFailure`. The spans are sent nevertheless: they are safer in ClickHouse.
    await this.commit().catch(() => {});
  }

  split(insert: Insert): readonly [Insert, Insert] {
    const { records } = (insert as RingInsert).assignment;
    const middle = records.length >> 1;
    return [this.insertOf(this.ring.assign(records.slice(0, middle))), this.insertOf(this.ring.assign(records.slice(middle)))];
  }

  /** Always: the blocks are acknowledged. */
  isWanted(): boolean {
    return true;
  }

  confirm(insert: Insert): void {
    this.stats.insertedRows += insert.rows;
    this.complete(insert, State.inserted);
  }

  async reject(insert: Insert, refused: Refused): Promise<void> {
    await this.keepDeadLetter(insert, refused);
    this.complete(insert, State.dead);
  }

  journal({ token }: Insert): SearchJournal | undefined {
    return this.journals?.open(token);
  }

  async confirmExcept(insert: Insert, refused: readonly RefusedPart[]): Promise<void> {
    for (const part of refused) {
      // Kept by an earlier call, which failed at a later part.
      if (this.keptParts.has(part)) continue;
      await this.keepDeadLetter(part.insert, part.refused);
      this.keptParts.add(part);
    }
    const storedRows = refused.reduce((rows, part) => rows - part.insert.rows, insert.rows);
    this.stats.insertedRows += storedRows - (this.storedRows.get(insert.token) ?? 0);
    this.complete(insert, storedRows > 0 ? State.inserted : State.dead);
    await this.forget(insert as RingInsert);
  }

  /** The records stay in the ring, and are sent again at the next start. */
  release(): void {}

  /** All blocks in the ring are durable: no request is refused. */
  abandon(): Abandoned {
    return { spansInDiskBuffer: this.heldRows, spansRefused: 0, spansLost: 0 };
  }

  /** Writes the ring to the disk, and closes it. Its records are inserted at the next start. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.closed = true;
    if (this.mode !== 'none') await this.commits.commit().catch(() => {});
    this.ring.close();
  }

  private complete(insert: Insert, state: typeof State.inserted | typeof State.dead): void {
    if (this.closed) return;
    this.heldRows -= insert.rows - (this.storedRows.get(insert.token) ?? 0);
    const { assignment } = insert as RingInsert;
    for (const { offset } of assignment.records) this.traces.delete(offset);
    this.ring.complete(assignment, state);
    if (this.mode === 'none') this.freeWithoutSync();
    else if (this.mode === 'always') this.commitUnattended();
  }

  /** Removes a journal once the state of its block is durable. After a failure it stays; `keepOnly` removes it at a later start. */
  private async forget({ token, assignment }: RingInsert): Promise<void> {
    if (this.journals === undefined || this.closed) return;
    if (this.mode !== 'none') {
      for (const { offset, frame } of assignment.records)
        this.commits.markChanged({ from: offset, to: offset + recordBytes(frame.length) });
      if (
        !(await this.commit().then(
          () => true,
          () => false,
        ))
      )
        return;
    }
    this.journals.remove(token);
  }

  /** With `none`, the mapping is durable enough: it survives the process. */
  private freeWithoutSync(): void {
    this.ring.saveTail();
    this.ring.confirm();
  }

  /** Commits with `interval`. With `always`, requests commit themselves; here a failed disk is tried again. */
  private tick(): void {
    if (this.mode === 'interval' || this.failure !== undefined) this.commitUnattended();
  }

  /** Commits without a waiter. A failure shows in `diskFailure`. */
  private commitUnattended(): void {
    this.commit().catch(() => {});
  }

  /** Commits `rows` rows of a block. On a failure its requests are refused, but the block stays in the ring and is inserted. */
  private async commitWith(rows: number): Promise<void> {
    try {
      await this.commit();
    } catch (error) {
      this.storedAfterRefusal += rows;
      throw error;
    }
  }

  private async commit(): Promise<void> {
    try {
      await this.commits.commit();
      this.failure = undefined;
    } catch (error) {
      this.stats.syncFailures++;
      this.failure = error as Error;
      throw diskBufferFailed();
    }
  }

  private insertOf(assignment: Assignment): RingInsert {
    const blocks = assignment.records.map((record) => ({ ...blockOf(record), trace: this.traces.get(record.offset) }));
    return { ...insertOf(blocks, tokenOf(this.ring.id, assignment)), assignment, sentTo: this.servers.nameOf(assignment.server) };
  }
}

function blockOf({ frame, rows, sequence, writtenAtMs }: RingRecord): Block {
  return { frame, rows, sequence, queuedAtMs: sinceStart(writtenAtMs) };
}

/** Converts a time in ms since 1970 to the scale of `performance.now()`. */
function sinceStart(timeMs: number): number {
  return performance.now() - (Date.now() - timeMs);
}

const DONE = Promise.resolve();
