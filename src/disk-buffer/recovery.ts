import { ALIGNMENT, HEADER_BYTES, Kind, type RecordFormat, type RecordHeader, recordBytes, State } from './record.ts';
import { RECORDS_START, type Superblock } from './superblock.ts';

/**
 * How far to search for a later record where, according to the superblock, there has been none. A search of the whole file would
 * read all of it into memory.
 */
const SEARCHED_BYTES = 64 * 1024 ** 2;

/** A damaged part of the ring. */
export interface Damage {
  readonly offset: number;
  /** The number of records lost there. It is known because sequences have no gaps. */
  readonly records: number;
  /** `insert`: the insert of the record is unknown. The record is sent again in another one, and may be stored twice. */
  readonly reason: 'header' | 'payload' | 'insert';
}

/** The log that recovery found in the file. */
export interface Recovered {
  /** Offset of the first record; of the next one if there is none. */
  readonly tailOffset: number;
  /** All records from the tail to the head, padding included, in order. */
  readonly records: readonly RecordHeader[];
  readonly headOffset: number;
  readonly nextSequence: number;
  readonly damage: readonly Damage[];
}

/** The offset of the record that follows one ending at `offset`: the start of the records when the end of the file is reached. */
export function wrapped(offset: number, end: number): number {
  return offset === end ? RECORDS_START : offset;
}

/**
 * Recovers the log of a ring: walks it from the tail, and repairs damage in `format`'s bytes.
 *
 * - The walk begins at the start of the file if the record with the tail's sequence is there: an empty ring is restarted there.
 * - The log ends where no later record follows. Records left from the previous round have lower sequences.
 * - A damaged header hides where the next record begins. That is then searched for at every aligned offset: up to the tail, or in
 *   the next 64 MB if the superblock has no later record. The gap becomes padding.
 * - A record with a damaged payload is marked dead.
 * - A damaged identity of an insert is restored from the insert's other records.
 * @param end offset of the end of the last possible record
 */
export function recover(format: RecordFormat, { tailOffset: savedOffset, tailSequence, headSequence }: Superblock, end: number): Recovered {
  const records: RecordHeader[] = [];
  const damage: Damage[] = [];
  const capacity = end - RECORDS_START;
  let sequence = tailSequence;
  let tailOffset = readAt(format, RECORDS_START, end, sequence)?.sequence === sequence ? RECORDS_START : wrapped(savedOffset, end);
  let offset = tailOffset;

  for (let walked = 0; walked < capacity;) {
    const header = readAt(format, offset, end, sequence);
    if (header === undefined) {
      const left = capacity - walked;
      const found = nextRecord(format, offset, sequence, end, sequence < headSequence ? left : Math.min(left, SEARCHED_BYTES));
      if (found === undefined) break;
      // The first record is damaged, and the ring may have been restarted at the start of the file. The saved tail may then be inside a
      // later record, which padding from there would overwrite.
      if (records.length === 0 && found.offset < offset) tailOffset = offset = RECORDS_START;
      damage.push({ offset, records: found.sequence - sequence, reason: 'header' });
      if (offset === found.offset) continue;
      if (isTooFewToWrap(offset, sequence, found)) break;
      pad(format, offset, found, end);
      continue;
    }
    if (header.kind === Kind.block && format.isPending(offset) && !format.payloadIsIntact(header)) {
      damage.push({ offset, records: 1, reason: 'payload' });
      format.setState(offset, State.dead);
    }
    records.push(header);
    walked += recordBytes(header.payloadLength);
    offset = wrapped(offset + recordBytes(header.payloadLength), end);
    sequence = header.sequence + 1;
  }
  repairInserts(format, records, damage);
  return { tailOffset, records, headOffset: offset, nextSequence: sequence, damage };
}

/** Restores damaged identities of inserts: each record of an insert holds the first and last sequence of all of them. */
function repairInserts(format: RecordFormat, records: readonly RecordHeader[], damage: Damage[]): void {
  const assigned = records.filter(({ kind, offset }) => kind === Kind.block && format.state(offset) === State.assigned);
  const damaged = assigned.filter(({ offset }) => format.insertOf(offset) === undefined);
  if (damaged.length === 0) return;
  for (const { offset, sequence } of damaged) {
    const other = assigned.find(({ offset: otherOffset }) => {
      const insert = format.insertOf(otherOffset);
      return insert !== undefined && insert.first <= sequence && sequence <= insert.last;
    });
    if (other !== undefined) {
      format.assign(offset, format.insertOf(other.offset)!);
      format.setServer(offset, format.server(other.offset));
    } else {
      format.setState(offset, State.written);
      damage.push({ offset, records: 0, reason: 'insert' });
    }
  }
}

/** The record at `offset`, if it is part of the log: not from the previous round. */
function readAt(format: RecordFormat, offset: number, end: number, leastSequence: number): RecordHeader | undefined {
  if (offset + HEADER_BYTES > end) return undefined;
  const header = format.read(offset);
  return header !== undefined && header.sequence >= leastSequence && offset + recordBytes(header.payloadLength) <= end ? header : undefined;
}

/** The first record after `from` with a higher sequence, also beyond the wrap at the end of the file. */
function nextRecord(format: RecordFormat, from: number, sequence: number, end: number, withinBytes: number): RecordHeader | undefined {
  const behindEnd = from + withinBytes - end;
  return (
    recordBetween(format, from + ALIGNMENT, from + withinBytes - Math.max(0, behindEnd), sequence, end) ??
    recordBetween(format, RECORDS_START, RECORDS_START + behindEnd, sequence, end)
  );
}

function recordBetween(format: RecordFormat, from: number, to: number, sequence: number, end: number): RecordHeader | undefined {
  if (to <= from) return undefined;
  for (let at = format.find(from, to); at !== undefined; at = format.find(at + ALIGNMENT, to)) {
    const header = readAt(format, at, end, sequence + 1);
    if (header !== undefined) return header;
  }
  return undefined;
}

/** Whether a gap wraps at the end of the file, but lacks only one sequence: impossible, as it would hold padding and a record. */
function isTooFewToWrap(offset: number, sequence: number, next: RecordHeader): boolean {
  return next.offset < offset && next.offset > RECORDS_START && next.sequence - sequence < 2;
}

/** Fills a gap with padding. If it wraps at the end of the file, at least two records are missing: enough sequences for two paddings. */
function pad(format: RecordFormat, from: number, next: RecordHeader, end: number): void {
  if (next.offset > from) {
    format.writePadding(from, next.offset - from, next.sequence - 1);
    return;
  }
  const wrapsBehindStart = next.offset > RECORDS_START;
  format.writePadding(from, end - from, next.sequence - (wrapsBehindStart ? 2 : 1));
  if (wrapsBehindStart) format.writePadding(RECORDS_START, next.offset - RECORDS_START, next.sequence - 1);
}
