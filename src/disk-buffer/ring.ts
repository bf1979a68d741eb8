import { randomBytes } from 'node:crypto';
import { readSync } from 'node:fs';
import { DiskBufferError } from './disk-buffer-error.ts';
import { MappedFile } from './mapped-file.ts';
import { PageWindow } from './page-window.ts';
import { PagesAhead } from './pages-ahead.ts';
import { ALIGNMENT, type InsertId, Kind, RecordFormat, recordBytes, State, type RecordHeader } from './record.ts';
import { recover, wrapped, type Damage } from './recovery.ts';
import {
  FORMAT_VERSION,
  newestSuperblock,
  readSuperblock,
  RECORDS_START,
  SUPERBLOCK_BYTES,
  writeSuperblock,
  type Superblock,
} from './superblock.ts';

/*
 * The ring file
 *
 *   0        4096      8192                                                 end
 *   ├────────┼─────────┼────────────┬────────────┬──────┬──────────┬─────────┤
 *   │ super 0│ super 1 │  inserted  │  assigned  │ dead │ written  │  free   │
 *   └────────┴─────────┴────────────┴────────────┴──────┴──────────┴─────────┘
 *                      ▲ tail                           ▲ cursor   ▲ head
 *
 * - A record is a block: a zstd frame with a ClickHouse Native block in it, behind a header (record.ts).
 * - Records are numbered without gaps, and never wrap: if one does not fit before the end, padding, a record too, fills the rest.
 * - A record exists when its checksummed header is in the mapping; only then is it acknowledged.
 * - Before an insert is sent, each of its records holds the insert's identity: its first and last sequence, and the epoch. The
 *   token is made from it: a replay sends the same bytes under the same token, and ClickHouse drops duplicates.
 * - Inserts end in any order. The tail moves over records that are inserted or dead, up to the first that is neither.
 * - Space behind the tail may be overwritten once a superblock with that tail is as durable as DISK_BUFFER_SYNC requires
 *   (`saveTail`, sync, `confirm`). Until then the other superblock, which is durable, is not changed.
 * - Pages far from the head, the cursor and the tail are not kept in memory (page-window.ts). Those just ahead of the head are loaded
 *   by another thread (pages-ahead.ts).
 * - When the ring is empty, the next record is written at the start of the file: few pages are used. No superblock records this:
 *   recovery recognizes it by the record at the start that has the tail's sequence.
 */

/** A record that waits for an insert, or whose insert is in flight. */
export interface RingRecord {
  readonly offset: number;
  readonly sequence: number;
  readonly rows: number;
  readonly writtenAtMs: number;
  /** A view of the file. */
  readonly frame: Buffer;
}

/** Records that are sent as one insert. */
export interface Assignment extends InsertId {
  /** The number of the server that an earlier process sent it to (server-names.ts); 0 if none, or if it is unknown. */
  readonly server: number;
  readonly records: readonly RingRecord[];
}

/** A range of the file, in bytes: `to` is not included. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

interface Tail {
  readonly offset: number;
  readonly sequence: number;
  /** Bytes the tail has passed since the ring was opened. */
  readonly passed: number;
}

/** A superblock is written after this many bytes even if the tail has not moved: less than the distance that recovery searches. */
const HEAD_SAVED_BYTES = 32 * 1024 ** 2;

/** The ring file: appends blocks, assigns them to inserts, and frees them. */
export class Ring {
  /** In hex. */
  readonly id: string;
  /** The damage that recovery found. */
  readonly damage: readonly Damage[];
  /** Inserts that were in flight when the last process ended. They have to be sent again, unchanged. */
  readonly replays: readonly Assignment[];
  readonly capacityBytes: number;
  readonly waiting = { blocks: 0, rows: 0, bytes: 0 };

  private readonly file: MappedFile;
  private readonly format: RecordFormat;
  private readonly ringId: Buffer;
  private readonly end: number;
  private readonly epoch = randomBytes(4).readUInt32LE();
  private generation: number;
  private tail: Tail;
  /** The tail in the newest superblock. */
  private saved: Tail | undefined;
  /** The tail in the newest durable superblock. Space behind it may be overwritten. */
  private confirmed: Tail;
  /** The superblock to write next: not the durable one. */
  private spare: number;
  private isSpareWritten = false;
  private head: number;
  private nextSequence: number;
  /** Offset of the oldest record that no insert has taken. */
  private cursor: number;
  /** Bytes of all records, padding included: those found at the start, and those written since. */
  private written = 0;
  private writtenAtSave = 0;
  private readonly writeWindow: PageWindow;
  private readonly pagesAhead: PagesAhead;
  private readonly readWindow: PageWindow;
  /** Records are marked as inserted long after the cursor has passed them. */
  private readonly tailWindow: PageWindow;

  /**
   * Opens the ring, or creates it, and recovers its records.
   * @param bytesWhenNew size of the file if it is created
   * @throws DiskBufferError when it can't be opened, has another format version, or both its superblocks are damaged
   */
  static open(path: string, bytesWhenNew: number): Ring {
    const file = MappedFile.open(path, (fd, presentBytes) => sizeOf(fd, presentBytes, bytesWhenNew));
    try {
      return new Ring(file, path);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  private constructor(file: MappedFile, path: string) {
    this.file = file;
    this.end = file.bytes.length - (file.bytes.length % ALIGNMENT);
    this.capacityBytes = this.end - RECORDS_START;
    const newest = newestSuperblock(file.bytes) ?? (isBlank(file.bytes) ? firstSuperblock(file.bytes) : undefined);
    if (newest === undefined) throw unreadable(file.bytes, path);
    const { superblock } = newest;
    // The last process may have been killed before this superblock was on the disk: it must be there before any later write.
    file.syncNow(0, RECORDS_START);
    this.spare = 1 - newest.index;
    this.ringId = superblock.ringId;
    this.id = superblock.ringId.toString('hex');
    this.generation = superblock.generation;
    this.format = new RecordFormat(file.bytes, superblock.ringId);

    const { tailOffset, records, headOffset, nextSequence, damage } = recover(this.format, superblock, this.end);
    this.damage = damage;
    this.head = headOffset;
    this.nextSequence = nextSequence;
    this.tail = { offset: tailOffset, sequence: superblock.tailSequence, passed: 0 };
    this.confirmed = this.tail;
    for (const { payloadLength } of records) this.written += recordBytes(payloadLength);
    const blocks = records.filter(({ kind }) => kind === Kind.block);
    this.replays = this.assignmentsAmong(blocks);
    const waiting = blocks.filter(({ offset }) => this.format.state(offset) === State.written);
    this.cursor = waiting[0]?.offset ?? this.head;
    for (const { rows, payloadLength } of waiting) this.countWaiting(1, rows, payloadLength);
    this.moveTail();
    // Makes both superblocks valid.
    this.saveTail();
    // Makes repairs durable: a damaged record must not be valid again after another crash, as its insert is sent without it.
    file.syncNow(0, damage.length > 0 ? this.end : RECORDS_START);
    this.confirm();
    // Recovery has loaded all records into memory: unload them.
    file.forget(RECORDS_START, this.end);
    this.writeWindow = new PageWindow(file);
    this.pagesAhead = new PagesAhead(file, this.head);
    this.readWindow = new PageWindow(file);
    this.tailWindow = new PageWindow(file);
  }

  /** Size of the file, in bytes. */
  get fileBytes(): number {
    return this.file.bytes.length;
  }

  /** Bytes of the records whose space is not free yet. */
  get usedBytes(): number {
    return this.written - this.confirmed.passed;
  }

  /** When the oldest waiting record was written, in ms since 1970; undefined if none waits. */
  get oldestWaitingAtMs(): number | undefined {
    if (this.waiting.blocks === 0) return undefined;
    return this.firstWaiting().writtenAtMs;
  }

  /** Whether a block fits into the empty ring. */
  fits(payloadLength: number): boolean {
    return recordBytes(payloadLength) <= this.capacityBytes;
  }

  /** Writes a block. @returns its range in the file; undefined if there is no room */
  append(frame: Buffer, rows: number, nowMs: number): Range | undefined {
    const bytes = recordBytes(frame.length);
    const offset = this.offsetFor(bytes);
    if (offset === undefined) return undefined;
    const wasWaiting = this.waiting.blocks > 0;
    this.format.write(offset, frame, this.nextSequence, rows, nowMs);
    if (!wasWaiting) this.cursor = offset;
    this.nextSequence++;
    this.written += bytes;
    this.head = wrapped(offset + bytes, this.end);
    this.writeWindow.moveTo(this.head);
    this.pagesAhead.moveTo(this.head);
    this.countWaiting(1, rows, frame.length);
    return { from: offset, to: offset + bytes };
  }

  /** Assigns the oldest waiting records to one insert: at least one, and no more than the limits allow. Undefined if none waits. */
  take(maxRows: number, maxBytes: number): Assignment | undefined {
    const records: RingRecord[] = [];
    let rows = 0;
    let bytes = 0;
    while (this.waiting.blocks > 0) {
      const header = this.firstWaiting();
      if (records.length > 0 && (rows + header.rows > maxRows || bytes + header.payloadLength > maxBytes)) break;
      rows += header.rows;
      bytes += header.payloadLength;
      records.push(this.recordOf(header));
      this.countWaiting(-1, -header.rows, -header.payloadLength);
      this.cursor = this.after(header);
    }
    this.readWindow.moveTo(this.cursor);
    return records.length === 0 ? undefined : this.assign(records);
  }

  /** Assigns `records` to one insert. */
  assign(records: readonly RingRecord[]): Assignment {
    const id: InsertId = { epoch: this.epoch, first: records[0].sequence, last: records.at(-1)!.sequence };
    for (const { offset } of records) this.format.assign(offset, id);
    return { ...id, server: 0, records };
  }

  /** Records the number of the server that an insert is about to be sent to (server-names.ts). */
  setServer({ records }: Assignment, server: number): void {
    for (const { offset } of records) this.format.setServer(offset, server);
  }

  /** Ends an insert, as inserted or dead: the space of its records can be freed. */
  complete({ records }: Assignment, state: typeof State.inserted | typeof State.dead): void {
    for (const { offset } of records) this.format.setState(offset, state);
    this.moveTail();
    this.tailWindow.moveTo(this.tail.offset);
  }

  /**
   * Writes the tail and the head to the spare superblock, if they have changed.
   * @returns the range of the file to sync; undefined if the newest superblock is already confirmed
   */
  saveTail(): Range | undefined {
    if (this.tail !== this.saved || this.isSpareWritten || this.written - this.writtenAtSave > HEAD_SAVED_BYTES) {
      const { ringId, tail } = this;
      this.generation++;
      writeSuperblock(this.file.bytes, this.spare, {
        generation: this.generation,
        ringId,
        fileBytes: this.file.bytes.length,
        tailOffset: tail.offset,
        tailSequence: tail.sequence,
        headSequence: this.nextSequence,
      });
      this.saved = tail;
      this.writtenAtSave = this.written;
      this.isSpareWritten = true;
    }
    return this.isSpareWritten ? { from: this.spare * SUPERBLOCK_BYTES, to: (this.spare + 1) * SUPERBLOCK_BYTES } : undefined;
  }

  /** Marks the last saved superblock as durable: the space behind its tail is free. */
  confirm(): void {
    if (this.saved === undefined || !this.isSpareWritten) return;
    this.isSpareWritten = false;
    this.spare = 1 - this.spare;
    if (this.saved.passed > this.confirmed.passed) this.confirmed = this.saved;
  }

  /** Writes a range of the file to the disk. @throws Error when the disk fails */
  sync(from: number, to: number): Promise<void> {
    return this.file.sync(from, to);
  }

  /** Unlocks and closes the file, without a sync. */
  close(): void {
    this.file.close();
  }

  /** The offset for a record of `bytes` bytes; undefined if there is no room. Pads the end of the file if the record does not fit there. */
  private offsetFor(bytes: number): number | undefined {
    if (this.usedBytes === 0 && this.head !== RECORDS_START) this.restart();
    if (bytes > this.capacityBytes - this.usedBytes) return undefined;
    if (this.head < this.confirmed.offset) return this.head;
    const toEnd = this.end - this.head;
    if (bytes <= toEnd) return this.head;
    if (bytes > this.confirmed.offset - RECORDS_START) return undefined;
    this.format.writePadding(this.head, toEnd, this.nextSequence);
    this.nextSequence++;
    this.written += toEnd;
    return RECORDS_START;
  }

  /** Moves the empty ring back to the start of the file: few pages are used. */
  private restart(): void {
    this.head = RECORDS_START;
    this.tail = { offset: RECORDS_START, sequence: this.nextSequence, passed: this.written };
    this.confirmed = this.tail;
  }

  /** Moves the tail over finished records. */
  private moveTail(): void {
    let { offset, sequence, passed } = this.tail;
    while (passed < this.written) {
      const header = this.format.read(offset);
      if (header === undefined || (header.kind === Kind.block && this.format.isPending(offset))) break;
      passed += recordBytes(header.payloadLength);
      offset = this.after(header);
      sequence = header.sequence + 1;
    }
    if (passed > this.tail.passed) this.tail = { offset, sequence, passed };
  }

  /** Moves the cursor to the oldest waiting record, which must exist. */
  private firstWaiting(): RecordHeader {
    for (;;) {
      const header = this.format.read(this.cursor)!;
      if (header.kind === Kind.block && this.format.state(this.cursor) === State.written) return header;
      this.cursor = this.after(header);
    }
  }

  private after({ offset, payloadLength }: RecordHeader): number {
    return wrapped(offset + recordBytes(payloadLength), this.end);
  }

  private recordOf(header: RecordHeader): RingRecord {
    const { offset, sequence, rows, writtenAtMs } = header;
    return { offset, sequence, rows, writtenAtMs, frame: this.format.payload(header) };
  }

  /** The inserts that the records are assigned to, in order. */
  private assignmentsAmong(blocks: readonly RecordHeader[]): Assignment[] {
    const found = new Map<string, Assignment & { records: RingRecord[] }>();
    for (const header of blocks) {
      if (this.format.state(header.offset) !== State.assigned) continue;
      // Recovery has restored or removed damaged assignments.
      const id = this.format.insertOf(header.offset)!;
      const token = tokenOf(this.id, id);
      let assignment = found.get(token);
      if (assignment === undefined) found.set(token, (assignment = { ...id, server: this.format.server(header.offset), records: [] }));
      assignment.records.push(this.recordOf(header));
    }
    return [...found.values()];
  }

  private countWaiting(blocks: number, rows: number, bytes: number): void {
    this.waiting.blocks += blocks;
    this.waiting.rows += rows;
    this.waiting.bytes += bytes;
  }
}

/** Makes the deduplication token of an insert. */
export function tokenOf(ringId: string, { epoch, first, last }: InsertId): string {
  return `${ringId}-${epoch.toString(16).padStart(8, '0')}-${first}-${last}`;
}

/** The size to open the file with: that in its superblock, even if it was truncated since; `wanted` if the file is new. */
function sizeOf(fd: number, presentBytes: number, wanted: number): number {
  const superblocks = Buffer.alloc(RECORDS_START);
  readSync(fd, superblocks, 0, RECORDS_START, 0);
  const isNew = superblocks.every((byte) => byte === 0);
  return newestSuperblock(superblocks)?.superblock.fileBytes ?? (isNew ? wanted : presentBytes);
}

/** Writes both superblocks of a new ring. */
function firstSuperblock(bytes: Buffer): { readonly index: number; readonly superblock: Superblock } {
  const superblock: Superblock = {
    generation: 1,
    ringId: randomBytes(16),
    fileBytes: bytes.length,
    tailOffset: RECORDS_START,
    tailSequence: 1,
    headSequence: 1,
  };
  for (const index of [0, 1]) writeSuperblock(bytes, index, superblock);
  return { index: 0, superblock };
}

/** Whether the file is new: neither a superblock (whose first bytes are written last) nor the first record was ever written. */
function isBlank(bytes: Buffer): boolean {
  if (bytes.length <= RECORDS_START) return false;
  return [0, SUPERBLOCK_BYTES, RECORDS_START].every((at) => bytes.subarray(at, at + 8).every((byte) => byte === 0));
}

/** The error for a file that has no valid superblock. */
export function unreadable(bytes: Buffer, path: string): DiskBufferError {
  const reading = [0, 1].map((index) => readSuperblock(bytes, index)).find(({ status }) => status === 'foreign');
  if (reading?.status === 'foreign') {
    return new DiskBufferError(
      `${path} has format version ${reading.version}; this collector reads version ${FORMAT_VERSION}. ` +
        'Run the collector version that wrote it until it is empty.',
    );
  }
  return new DiskBufferError(
    `${path} is damaged: neither of its superblocks is valid. Nothing was changed. Move the file away to start with an empty one.`,
  );
}
