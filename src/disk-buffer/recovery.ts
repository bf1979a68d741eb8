import { ALIGNMENT, HEADER_BYTES, Kind, type RecordFormat, type RecordHeader, recordBytes, State } from './record.ts';
import { RECORDS_START, type Superblock } from './superblock.ts';

/**
 * How far a later record is looked for where, as far as the superblock knows, none has been. To search the whole file
 * each time would read all of it into memory.
 */
const SEARCHED_BYTES = 64 * 1024 ** 2;

/** A place where the ring is not as it was written. */
export interface Damage {
  readonly offset: number;
  /** Records that are gone there. Their number is known, as sequences have no gaps. */
  readonly records: number;
  /** `insert`: which insert the record was sent in is not known any more. It is sent again, and may be stored twice. */
  readonly reason: 'header' | 'payload' | 'insert';
}

export interface Recovered {
  /** Where the first of them is, or will be. */
  readonly tailOffset: number;
  /** Every record from the tail to the head, padding included, in order. */
  readonly records: readonly RecordHeader[];
  readonly headOffset: number;
  readonly nextSequence: number;
  readonly damage: readonly Damage[];
}

/** Where the record behind one that ends at `offset` begins: at the start again when the end is reached. */
export function wrapped(offset: number, end: number): number {
  return offset === end ? RECORDS_START : offset;
}

/**
 * Walks the ring from its tail; a ring that was empty there may have begun at its start again. The log ends where no
 * later record follows: what is left there from the round before has lower sequences. A damaged header hides where the next record begins: that is then looked for at every possible place
 * up to the tail, or within the next 64 MB if the superblock knows of none, and what lies between becomes padding. A damaged payload costs its record alone, which is marked dead.
 * A damaged identity of an insert is mended from the insert's other records.
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
      // Whether the ring had begun at its start again is not to be known: what lies behind the tail may be of a record.
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

/** Each record of an insert names all of them by their numbers. */
function repairInserts(format: RecordFormat, records: readonly RecordHeader[], damage: Damage[]): void {
  const assigned = records.filter(({ kind, offset }) => kind === Kind.block && format.state(offset) === State.assigned);
  const damaged = assigned.filter(({ offset }) => format.insertOf(offset) === undefined);
  if (damaged.length === 0) return;
  for (const { offset, sequence } of damaged) {
    const companion = assigned.find((other) => {
      const insert = format.insertOf(other.offset);
      return insert !== undefined && insert.first <= sequence && sequence <= insert.last;
    });
    if (companion !== undefined) {
      format.assign(offset, format.insertOf(companion.offset)!);
      format.setServer(offset, format.server(companion.offset));
    } else {
      format.setState(offset, State.written);
      damage.push({ offset, records: 0, reason: 'insert' });
    }
  }
}

/** The record at `offset`, if it is one of the log: not from the round before. */
function readAt(format: RecordFormat, offset: number, end: number, leastSequence: number): RecordHeader | undefined {
  if (offset + HEADER_BYTES > end) return undefined;
  const header = format.read(offset);
  return header !== undefined && header.sequence >= leastSequence && offset + recordBytes(header.payloadLength) <= end ? header : undefined;
}

/** The first record behind `from`, over the end of the file too. */
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

/** Whether a gap goes over the end of the file, but misses one number only: padding there and a record at the start take two. It can't be. */
function isTooFewToWrap(offset: number, sequence: number, next: RecordHeader): boolean {
  return next.offset < offset && next.offset > RECORDS_START && next.sequence - sequence < 2;
}

/** Bridges a gap. Where it goes over the end of the file, two records or more are missing: there are numbers for both paddings. */
function pad(format: RecordFormat, from: number, next: RecordHeader, end: number): void {
  if (next.offset > from) {
    format.writePadding(from, next.offset - from, next.sequence - 1);
    return;
  }
  const wrapsBehindStart = next.offset > RECORDS_START;
  format.writePadding(from, end - from, next.sequence - (wrapsBehindStart ? 2 : 1));
  if (wrapsBehindStart) format.writePadding(RECORDS_START, next.offset - RECORDS_START, next.sequence - 1);
}
