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
import { GroupCommit } from './group-commit.ts';
import { recordBytes, State } from './record.ts';
import { type Assignment, type Ring, type RingRecord, tokenOf } from './ring.ts';
import type { SearchJournals } from './search-journals.ts';
import type { ServerNames } from './server-names.ts';

/** Fill at which new requests are refused, and below which they are taken again. */
const HIGH_MARK = 0.95;
const LOW_MARK = 0.85;
const SYNC_INTERVAL_MS = 1000;

/** Traced blocks remembered until they are inserted. In an outage more may come: the inserts of those are not traced. */
const MAX_TRACES = 1_000;

export type SyncMode = 'none' | 'interval' | 'always';
export type AckMode = 'durable' | 'received';

interface RingInsert extends Insert {
  readonly assignment: Assignment;
}

/**
 * The queue on disk: a block is durable when it is in the ring. Inserts that were on their way when the last process
 * ended come first, with the bytes and the token they had.
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
  private readonly recoveredRows: number;
  /** In the ring, and not stored yet. */
  private heldRows: number;
  private storedAfterRefusal = 0;
  /** Of blocks that are traced, by the offset of their records: the ring holds nothing of them. */
  private readonly traces = new Map<number, BlockTrace>();
  private readonly keptParts = new WeakSet<RefusedPart>();
  private failure: Error | undefined;
  /** Another process may have the file: an answer that comes late must not touch it. */
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
    journals?.keepOnly(new Set(this.replays.map((replayed) => tokenOf(ring.id, replayed))));
    this.recoveredRows = this.waiting.rows;
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

  /** Why the ring is not trusted, while its disk fails. */
  get diskFailure(): Error | undefined {
    return this.failure;
  }

  push({ frame, rows, trace }: QueuedBlock): Promise<void> {
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
    // Its senders have their answer. What the disk does not take stays in the ring, and goes to ClickHouse: it is neither lost nor stored after a refusal.
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
      this.stats.replayedRows += insert.rows;
      return insert;
    }
    const assignment = this.ring.take(maxRows, maxBytes);
    return assignment === undefined ? undefined : this.insertOf(assignment);
  }

  /** With DISK_BUFFER_SYNC=always, what an insert is made of is on the disk before it is sent. */
  async prepare(insert: Insert, server: string): Promise<void> {
    const number = this.servers.numberOf(server) || (await this.servers.newNumberOf(server));
    if (this.closed) throw new Error('the disk buffer is closed');
    this.ring.sentTo((insert as RingInsert).assignment, number);
    if (this.mode !== 'always') return;
    // Whole records, though only headers have changed: side by side they are one range, and one sync.
    for (const { offset, frame } of (insert as RingInsert).assignment.records)
      this.commits.markChanged({ from: offset, to: offset + recordBytes(frame.length) });
    // A disk that fails shows in `diskFailure`; the spans are better off in ClickHouse all the same.
    await this.commit().catch(() => {});
  }

  split(insert: Insert): readonly [Insert, Insert] {
    const { records } = (insert as RingInsert).assignment;
    const middle = records.length >> 1;
    return [this.insertOf(this.ring.assign(records.slice(0, middle))), this.insertOf(this.ring.assign(records.slice(middle)))];
  }

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
      // When it is called again, as the next one could not be kept.
      if (this.keptParts.has(part)) continue;
      await this.keepDeadLetter(part.insert, part.refused);
      this.keptParts.add(part);
    }
    const storedRows = refused.reduce((rows, part) => rows - part.insert.rows, insert.rows);
    this.stats.insertedRows += storedRows;
    this.complete(insert, storedRows > 0 ? State.inserted : State.dead);
    await this.forget(insert as RingInsert);
  }

  /** The records stay, and are sent again at the next start. */
  release(): void {}

  /** What is in the ring is safe there, given to an insert or not. */
  abandon(): Abandoned {
    return { spansInDiskBuffer: this.heldRows, spansRefused: 0, spansLost: 0 };
  }

  /** Ends the use of the ring; what is in it is for the next start. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.closed = true;
    if (this.mode !== 'none') await this.commits.commit().catch(() => {});
    this.ring.close();
  }

  private complete(insert: Insert, state: typeof State.inserted | typeof State.dead): void {
    if (this.closed) return;
    this.heldRows -= insert.rows;
    const { assignment } = insert as RingInsert;
    for (const { offset } of assignment.records) this.traces.delete(offset);
    this.ring.complete(assignment, state);
    if (this.mode === 'none') this.freeWithoutSync();
    else if (this.mode === 'always') this.commitUnattended();
  }

  /** The journal goes when the ring says for good that the block is done. A failure leaves it to the next start, and to `keepOnly` then. */
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

  /** The mapping survives the process; more was not asked for. */
  private freeWithoutSync(): void {
    this.ring.saveTail();
    this.ring.confirm();
  }

  /** With `always`, commits go with the requests; a disk that has failed is tried again. */
  private tick(): void {
    if (this.mode === 'interval' || this.failure !== undefined) this.commitUnattended();
  }

  /** A failure then shows in `diskFailure`. */
  private commitUnattended(): void {
    this.commit().catch(() => {});
  }

  /** What is in the ring stays there, also when its senders are refused. */
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

/** A time of day as `performance.now()` would have said it. */
function sinceStart(timeMs: number): number {
  return performance.now() - (Date.now() - timeMs);
}

const DONE = Promise.resolve();
