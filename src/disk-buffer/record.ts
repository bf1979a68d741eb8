import { crc32 } from 'node:zlib';

/*
 * A record, little-endian, on a multiple of 64 bytes: a header never lies on two sectors, so that it is on the disk
 * whole or not at all.
 *
 *   0  magic            4  checksum of 8…48 and the ring's id     written once,
 *   8  payload length  12  checksum of the payload                the magic last
 *  16  sequence (u64)  24  row count       28  kind
 *  32  written at, ms since 1970 (u64)     40  reserved (u64)
 *  48  insert: first sequence (u48), 54 state, 55 server (u8)     changes with the
 *  56  insert: last sequence − first, 60  epoch (u32 each)        record's life
 *  64  payload
 */

export const HEADER_BYTES = 64;
export const ALIGNMENT = 64;
const MAGIC = 0x4b434f42; // "BOCK"

export const Kind = { block: 0, padding: 1 } as const;

/** written → assigned (to an insert) → inserted; or dead, when ClickHouse will never take it or it is damaged. */
export const State = { written: 0, assigned: 1, inserted: 2, dead: 3 } as const;
export type StateValue = (typeof State)[keyof typeof State];

/**
 * The identity of an insert: no two inserts of different records ever have the same one. The epoch is another at each
 * opening of the ring, as numbers come again when a machine loses power before the records that bore them are on its disk.
 */
export interface InsertId {
  readonly epoch: number;
  readonly first: number;
  readonly last: number;
}

export interface RecordHeader {
  readonly offset: number;
  readonly payloadLength: number;
  readonly payloadChecksum: number;
  readonly sequence: number;
  readonly rows: number;
  readonly kind: number;
  readonly writtenAtMs: number;
}

/** Bytes a record takes, with its header and what it is rounded up by. */
export function recordBytes(payloadLength: number): number {
  return HEADER_BYTES + Math.ceil(payloadLength / ALIGNMENT) * ALIGNMENT;
}

/** Reads and writes the records of one ring. The ring's id goes into each checksum: what a sender makes up is no record. */
export class RecordFormat {
  private readonly bytes: Buffer;
  private readonly seed: number;

  constructor(bytes: Buffer, ringId: Buffer) {
    this.bytes = bytes;
    this.seed = crc32(ringId);
  }

  /** Writes a record. It exists from the moment its magic is there, which is written last. */
  write(offset: number, payload: Buffer, sequence: number, rows: number, writtenAtMs: number): void {
    // What was here before must not be taken for a record while this one is being written.
    this.bytes.writeUInt32LE(0, offset);
    payload.copy(this.bytes, offset + HEADER_BYTES);
    this.writeHeader(offset, payload.length, crc32(payload), sequence, rows, writtenAtMs, Kind.block);
  }

  /** Fills a stretch of the file where no block goes. */
  writePadding(offset: number, bytes: number, sequence: number): void {
    this.bytes.writeUInt32LE(0, offset);
    this.writeHeader(offset, bytes - HEADER_BYTES, 0, sequence, 0, 0, Kind.padding);
  }

  private writeHeader(offset: number, payloadLength: number, payloadChecksum: number, sequence: number, rows: number, writtenAtMs: number, kind: number): void {
    const { bytes } = this;
    bytes.writeUInt32LE(payloadLength, offset + 8);
    bytes.writeUInt32LE(payloadChecksum, offset + 12);
    writeU64(bytes, sequence, offset + 16);
    bytes.writeUInt32LE(rows, offset + 24);
    bytes.writeUInt32LE(kind, offset + 28);
    writeU64(bytes, writtenAtMs, offset + 32);
    bytes.fill(0, offset + 40, offset + HEADER_BYTES);
    bytes.writeUInt32LE(this.headerChecksum(offset), offset + 4);
    bytes.writeUInt32LE(MAGIC, offset);
  }

  /** The header at `offset`, or undefined if there is no valid one. */
  read(offset: number): RecordHeader | undefined {
    const { bytes } = this;
    if (bytes.readUInt32LE(offset) !== MAGIC || bytes.readUInt32LE(offset + 4) !== this.headerChecksum(offset)) return undefined;
    return {
      offset,
      payloadLength: bytes.readUInt32LE(offset + 8),
      payloadChecksum: bytes.readUInt32LE(offset + 12),
      sequence: readU64(bytes, offset + 16),
      rows: bytes.readUInt32LE(offset + 24),
      kind: bytes.readUInt32LE(offset + 28),
      writtenAtMs: readU64(bytes, offset + 32),
    };
  }

  /** The record's payload: a view of the file, no copy. */
  payload({ offset, payloadLength }: RecordHeader): Buffer {
    return this.bytes.subarray(offset + HEADER_BYTES, offset + HEADER_BYTES + payloadLength);
  }

  payloadIsIntact(header: RecordHeader): boolean {
    return crc32(this.payload(header)) === header.payloadChecksum;
  }

  state(offset: number): number {
    return this.bytes[offset + 54];
  }

  /** Sets the state of a record that stays in its insert. */
  setState(offset: number, state: StateValue): void {
    this.bytes[offset + 54] = state;
  }

  /** The number of the server its insert was sent to last; 0 if none. */
  server(offset: number): number {
    return this.bytes[offset + 55];
  }

  setServer(offset: number, server: number): void {
    this.bytes[offset + 55] = server;
  }

  /**
   * Fixes the insert a record is sent in. The first sequence is written first: cut short, a record that is moved to
   * another insert (`RingQueue.halves`) is in none that was sent.
   */
  assign(offset: number, { epoch, first, last }: InsertId): void {
    this.bytes.writeUIntLE(first, offset + 48, 6);
    this.bytes.writeUInt32LE(last - first, offset + 56);
    this.bytes.writeUInt32LE(epoch, offset + 60);
    this.setServer(offset, 0);
    this.setState(offset, State.assigned);
  }

  insertOf(offset: number): InsertId {
    const first = this.bytes.readUIntLE(offset + 48, 6);
    return { epoch: this.bytes.readUInt32LE(offset + 60), first, last: first + this.bytes.readUInt32LE(offset + 56) };
  }

  private headerChecksum(offset: number): number {
    return crc32(this.bytes.subarray(offset + 8, offset + 48), this.seed);
  }
}

export function writeU64(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt32LE(value % 0x1_0000_0000, offset);
  bytes.writeUInt32LE(Math.floor(value / 0x1_0000_0000), offset + 4);
}

export function readU64(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset) + bytes.readUInt32LE(offset + 4) * 0x1_0000_0000;
}
