import { randomBytes } from 'node:crypto';
import { readSync } from 'node:fs';
import { DiskBufferError } from './disk-buffer-error.ts';
import { MappedFile } from './mapped-file.ts';
import { PageWindow } from './page-window.ts';
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
 * - Records are numbered without gaps, and never wrap: what does not fit before the end leaves padding, a record too.
 * - A record exists when its checksummed header is in the mapping; only then is it acknowledged.
 * - Before an insert is sent, each of its records holds the insert's identity: its first and last sequence, and the
 *   epoch that they count in. It is the token: a replay sends the same bytes under the same token, and ClickHouse drops
 *   what it has already.
 * - Inserts end in any order. The tail moves over records that are inserted or dead, and never past one that is not.
 * - What the tail has passed may be overwritten once a superblock that says so is as durable as DISK_BUFFER_SYNC asks
 *   (`saveTail`, sync, `confirm`). Until then the other superblock, which is, stays as it is.
 * - Pages that lie far from the head, the cursor and the tail are not kept in memory (page-window.ts).
 * - When all is free, the next record is written at the start again: the pages in use stay few. No superblock has to say
 *   so: the record there with the very sequence of the tail does.
 */

/** A record that waits or is on its way. */
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
  /** The number of who it was sent to before this process (server-names.ts); 0 if to nobody, or that is not known. */
  readonly server: number;
  readonly records: readonly RingRecord[];
}

interface Range {
  readonly from: number;
  readonly to: number;
}

interface Tail {
  readonly offset: number;
  readonly sequence: number;
  /** Bytes the tail has passed since the ring was opened. */
  readonly passed: number;
}

/** So much is written before a superblock tells where the head is, though the tail stays: less than recovery searches. */
const HEAD_SAVED_BYTES = 32 * 1024 ** 2;

export class Ring {
  readonly id: string;
  /** What recovery found broken. */
  readonly damage: readonly Damage[];
  /** Inserts that were on their way when the last process ended. They are to be sent again, as they are. */
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
  /** The tail that the newest superblock says. */
  private saved: Tail | undefined;
  /** What lies before it may be overwritten. */
  private confirmed: Tail;
  /** The superblock to write next: not the one that is on the disk for sure. */
  private spare: number;
  private isSpareWritten = false;
  private head: number;
  private nextSequence: number;
  /** The oldest record that no insert has taken. */
  private cursor: number;
  /** Bytes written, padding included, since the ring was opened, and what was in it then. */
  private written = 0;
  private writtenAtSave = 0;
  private readonly writeWindow: PageWindow;
  private readonly readWindow: PageWindow;
  /** Records are marked as inserted long after the cursor has left them. */
  private readonly tailWindow: PageWindow;

  /**
   * Opens the ring, or makes it, and recovers what is in it.
   * @throws DiskBufferError when it can't be had, is of another version, or both its superblocks are damaged
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
    // The last process may have been killed before it was on the disk, and what comes now must not overtake it.
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
    // Both superblocks are valid from here on, whatever they were.
    this.saveTail();
    // What was found damaged stays so: it must not come back whole after another crash, when its insert was sent without it.
    file.syncNow(0, damage.length > 0 ? this.end : RECORDS_START);
    this.confirm();
    // Recovery has read what is in the ring: no need to keep that in memory.
    file.forget(RECORDS_START, this.end);
    this.writeWindow = new PageWindow(file);
    this.readWindow = new PageWindow(file);
    this.tailWindow = new PageWindow(file);
  }

  /** Bytes of the whole file. */
  get fileBytes(): number {
    return this.file.bytes.length;
  }

  /** Bytes of records that are not free yet. */
  get usedBytes(): number {
    return this.written - this.confirmed.passed;
  }

  /** When the oldest waiting record was written, in ms since 1970; undefined if none waits. */
  get oldestWaitingAtMs(): number | undefined {
    if (this.waiting.blocks === 0) return undefined;
    return this.firstWaiting().writtenAtMs;
  }

  /** Whether a block could ever be written, were the ring empty. */
  fits(payloadLength: number): boolean {
    return recordBytes(payloadLength) <= this.capacityBytes;
  }

  /** Writes a block. The range of the file that holds it, or undefined if there is no room. */
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
    this.countWaiting(1, rows, frame.length);
    return { from: offset, to: offset + bytes };
  }

  /** Assigns the oldest waiting records, at least one, up to the limits, to one insert. */
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
      this.cursor = this.behind(header);
    }
    this.readWindow.moveTo(this.cursor);
    return records.length === 0 ? undefined : this.assign(records);
  }

  /** Fixes that `records` are sent as one insert. */
  assign(records: readonly RingRecord[]): Assignment {
    const id: InsertId = { epoch: this.epoch, first: records[0].sequence, last: records.at(-1)!.sequence };
    for (const { offset } of records) this.format.assign(offset, id);
    return { ...id, server: 0, records };
  }

  /** Notes where an insert is about to be sent. */
  sentTo({ records }: Assignment, server: number): void {
    for (const { offset } of records) this.format.setServer(offset, server);
  }

  /** The insert has ended, well or badly: its records are not needed any more. */
  complete({ records }: Assignment, state: typeof State.inserted | typeof State.dead): void {
    for (const { offset } of records) this.format.setState(offset, state);
    this.moveTail();
    this.tailWindow.moveTo(this.tail.offset);
  }

  /** Writes where the tail and the head are to a superblock. The range of the file that holds it, unless what it says was confirmed already. */
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

  /** The superblock that was saved last is safe: what lies before its tail may be overwritten. */
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

  close(): void {
    this.file.close();
  }

  /** Where a record of `bytes` goes; undefined if nowhere. Pads the end of the file if it does not fit there. */
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

  /** Begins at the start of the file again, as nothing is in it: the pages in use stay few. */
  private restart(): void {
    this.head = RECORDS_START;
    this.tail = { offset: RECORDS_START, sequence: this.nextSequence, passed: this.written };
    this.confirmed = this.tail;
  }

  /** Moves the tail over what is done. */
  private moveTail(): void {
    let { offset, sequence, passed } = this.tail;
    while (passed < this.written) {
      const header = this.format.read(offset);
      if (header === undefined || (header.kind === Kind.block && this.format.isPending(offset))) break;
      passed += recordBytes(header.payloadLength);
      offset = this.behind(header);
      sequence = header.sequence + 1;
    }
    if (passed > this.tail.passed) this.tail = { offset, sequence, passed };
  }

  /** The oldest waiting record, to which the cursor moves. There is one. */
  private firstWaiting(): RecordHeader {
    for (;;) {
      const header = this.format.read(this.cursor)!;
      if (header.kind === Kind.block && this.format.state(this.cursor) === State.written) return header;
      this.cursor = this.behind(header);
    }
  }

  private behind({ offset, payloadLength }: RecordHeader): number {
    return wrapped(offset + recordBytes(payloadLength), this.end);
  }

  private recordOf(header: RecordHeader): RingRecord {
    const { offset, sequence, rows, writtenAtMs } = header;
    return { offset, sequence, rows, writtenAtMs, frame: this.format.payload(header) };
  }

  /** The inserts that records were assigned to, in order. */
  private assignmentsAmong(blocks: readonly RecordHeader[]): Assignment[] {
    const found = new Map<string, Assignment & { records: RingRecord[] }>();
    for (const header of blocks) {
      if (this.format.state(header.offset) !== State.assigned) continue;
      // Recovery has mended or dissolved those that were damaged.
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

/** The deduplication token of an insert. */
export function tokenOf(ringId: string, { epoch, first, last }: InsertId): string {
  return `${ringId}-${epoch.toString(16).padStart(8, '0')}-${first}-${last}`;
}

/** The size of the file: what its superblock says, also if the file was cut short since; the wanted one if it is new. */
function sizeOf(fd: number, presentBytes: number, wanted: number): number {
  const superblocks = Buffer.alloc(RECORDS_START);
  readSync(fd, superblocks, 0, RECORDS_START, 0);
  const isNew = superblocks.every((byte) => byte === 0);
  return newestSuperblock(superblocks)?.superblock.fileBytes ?? (isNew ? wanted : presentBytes);
}

/** Writes both superblocks: there is nothing in them to lose. */
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

/** Just made: nothing was ever written, neither a superblock (its first bytes come last) nor the first record. */
function isBlank(bytes: Buffer): boolean {
  if (bytes.length <= RECORDS_START) return false;
  return [0, SUPERBLOCK_BYTES, RECORDS_START].every((at) => bytes.subarray(at, at + 8).every((byte) => byte === 0));
}

/** Why a file with neither superblock valid is no ring to read. */
export function unreadable(bytes: Buffer, path: string): DiskBufferError {
  const reading = [0, 1].map((index) => readSuperblock(bytes, index)).find(({ status }) => status === 'foreign');
  if (reading?.status === 'foreign') {
    return new DiskBufferError(
      `${path} has the format of version ${reading.version}; this collector reads version ${FORMAT_VERSION}. Start the version that wrote it until it is empty.`,
    );
  }
  return new DiskBufferError(
    `${path} is damaged: neither of its superblocks is valid. Nothing was changed. Move the file away to start with an empty one.`,
  );
}
