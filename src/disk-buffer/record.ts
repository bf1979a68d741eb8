import { crc32 } from 'node:zlib';
import { readU64, writeU64 } from '../transcode/bytes/u64.ts';

/*
 * A record, little-endian, at a multiple of 64 bytes: a header never spans two sectors, so that it is on the disk either complete or
 * not at all.
 *
 *   0  magic            4  checksum of 8…40 and the ring's id        written once,
 *   8  payload length  12  checksum of the payload                   the magic last
 *  16  sequence (u64)  24  row count
 *  28  kind (u16)      30  payload length, bits 32 to 47 (u16)
 *  32  written at, ms since 1970 (u64)
 *  40  checksum of 48…62 and the ring's id                           changes with the
 *  44  server (u8), 45  its complement      46  reserved              record's life
 *  48  insert: epoch   52  insert: last sequence − first
 *  56  insert: first sequence (u48)          62  state (u16)
 *  64  payload
 */

/** Size of a header. */
export const HEADER_BYTES = 64;
/** Offsets and sizes of records are multiples of this, in bytes. */
export const ALIGNMENT = 64;
const MAGIC_BYTES = Buffer.from('BOCK');
const MAGIC = MAGIC_BYTES.readUInt32LE();

/** A record holds a block, or fills space that no block fits into. */
export const Kind = { block: 0, padding: 1 } as const;

/**
 * written → assigned (to an insert) → inserted; or dead, when ClickHouse refuses it permanently or it is damaged.
 * Any two codes differ in at least ten bits: a few flipped bits can't turn a record that is not inserted into an inserted one.
 */
export const State = { written: 0x0000, assigned: 0x03ff, inserted: 0xfc1f, dead: 0xffe0 } as const;
export type StateValue = (typeof State)[keyof typeof State];
const STATES = Object.values(State);

/**
 * The identity of an insert: two inserts of different records never have the same one. The epoch is a random number for each time
 * the ring is opened: after a power loss, the sequences of records that were not on the disk yet are used again.
 */
export interface InsertId {
  readonly epoch: number;
  readonly first: number;
  readonly last: number;
}

/** The part of a header that is written once. */
export interface RecordHeader {
  /** Of the header in the file. */
  readonly offset: number;
  readonly payloadLength: number;
  readonly payloadChecksum: number;
  readonly sequence: number;
  readonly rows: number;
  readonly kind: number;
  readonly writtenAtMs: number;
}

/** The size of a record in bytes, with its header and rounded up to the alignment. */
export function recordBytes(payloadLength: number): number {
  return HEADER_BYTES + Math.ceil(payloadLength / ALIGNMENT) * ALIGNMENT;
}

/** Reads and writes the records of one ring. The ring's id is part of each checksum: data of a sender can't pass for a record. */
export class RecordFormat {
  private readonly bytes: Buffer;
  private readonly seed: number;

  constructor(bytes: Buffer, ringId: Buffer) {
    this.bytes = bytes;
    this.seed = crc32(ringId);
  }

  /** Writes a record. It exists once its magic is written, which is written last. */
  write(offset: number, payload: Buffer, sequence: number, rows: number, writtenAtMs: number): void {
    // An old record here must not be valid while this one is being written.
    this.bytes.writeUInt32LE(0, offset);
    payload.copy(this.bytes, offset + HEADER_BYTES);
    this.writeHeader(offset, payload.length, crc32(payload), sequence, rows, writtenAtMs, Kind.block);
  }

  /** Writes a padding record of `bytes` bytes over a range of the file that holds no block. */
  writePadding(offset: number, bytes: number, sequence: number): void {
    this.bytes.writeUInt32LE(0, offset);
    this.writeHeader(offset, bytes - HEADER_BYTES, 0, sequence, 0, 0, Kind.padding);
  }

  private writeHeader(
    offset: number,
    payloadLength: number,
    payloadChecksum: number,
    sequence: number,
    rows: number,
    writtenAtMs: number,
    kind: number,
  ): void {
    const { bytes } = this;
    bytes.writeUInt32LE(payloadLength % 2 ** 32, offset + 8);
    bytes.writeUInt32LE(payloadChecksum, offset + 12);
    writeU64(bytes, sequence, offset + 16);
    bytes.writeUInt32LE(rows, offset + 24);
    bytes.writeUInt16LE(kind, offset + 28);
    bytes.writeUInt16LE(Math.floor(payloadLength / 2 ** 32), offset + 30);
    writeU64(bytes, writtenAtMs, offset + 32);
    bytes.fill(0, offset + 40, offset + HEADER_BYTES);
    bytes.writeUInt32LE(this.headerChecksum(offset), offset + 4);
    bytes.writeUInt32LE(MAGIC, offset);
  }

  /** Reads the header at `offset`; undefined if there is no valid one. */
  read(offset: number): RecordHeader | undefined {
    const { bytes } = this;
    if (bytes.readUInt32LE(offset) !== MAGIC || bytes.readUInt32LE(offset + 4) !== this.headerChecksum(offset)) return undefined;
    return {
      offset,
      payloadLength: bytes.readUInt32LE(offset + 8) + bytes.readUInt16LE(offset + 30) * 2 ** 32,
      payloadChecksum: bytes.readUInt32LE(offset + 12),
      sequence: readU64(bytes, offset + 16),
      rows: bytes.readUInt32LE(offset + 24),
      kind: bytes.readUInt16LE(offset + 28),
      writtenAtMs: readU64(bytes, offset + 32),
    };
  }

  /** The first aligned offset in [`from`, `to`) with a magic, where a header may begin; undefined if there is none. */
  find(from: number, to: number): number | undefined {
    const range = this.bytes.subarray(from, to);
    for (let at = range.indexOf(MAGIC_BYTES); at >= 0; at = range.indexOf(MAGIC_BYTES, at + 1)) {
      if ((from + at) % ALIGNMENT === 0) return from + at;
    }
    return undefined;
  }

  /** The payload of a record, as a view of the file. */
  payload({ offset, payloadLength }: RecordHeader): Buffer {
    return this.bytes.subarray(offset + HEADER_BYTES, offset + HEADER_BYTES + payloadLength);
  }

  /** Whether the payload matches its checksum. */
  payloadIsIntact(header: RecordHeader): boolean {
    return crc32(this.payload(header)) === header.payloadChecksum;
  }

  /** Reads the state of a record; with flipped bits, the state that differs in the fewest bits. */
  state(offset: number): StateValue {
    const code = this.bytes.readUInt16LE(offset + 62);
    const exact = STATES.find((state) => state === code);
    return exact ?? STATES.reduce((nearest, state) => (differingBits(code, state) < differingBits(code, nearest) ? state : nearest));
  }

  /** Whether a record is still to be inserted, as far as is known. */
  isPending(offset: number): boolean {
    const state = this.state(offset);
    return state === State.written || state === State.assigned;
  }

  /** Writes the state of a record. Its insert is left unchanged. */
  setState(offset: number, state: StateValue): void {
    this.bytes.writeUInt16LE(state, offset + 62);
  }

  /** Reads the number of the server that its insert was last sent to (server-names.ts); 0 if none, or if it is damaged. */
  server(offset: number): number {
    const server = this.bytes[offset + 44];
    return (server ^ this.bytes[offset + 45]) === 0xff ? server : 0;
  }

  /** Writes the number of the server that its insert is about to be sent to, 0 to 255. */
  setServer(offset: number, server: number): void {
    this.bytes.writeUInt16LE(server | ((server ^ 0xff) << 8), offset + 44);
  }

  /** Assigns a record to an insert. Its server is reset to 0. */
  assign(offset: number, { epoch, first, last }: InsertId): void {
    this.bytes.writeUInt32LE(epoch, offset + 48);
    this.bytes.writeUInt32LE(last - first, offset + 52);
    this.bytes.writeUIntLE(first, offset + 56, 6);
    this.bytes.writeUInt32LE(this.insertChecksum(offset), offset + 40);
    this.setServer(offset, 0);
    this.setState(offset, State.assigned);
  }

  /** Reads the insert of an assigned record; undefined if it is damaged, or was being written when the process ended. */
  insertOf(offset: number): InsertId | undefined {
    if (this.bytes.readUInt32LE(offset + 40) !== this.insertChecksum(offset)) return undefined;
    const first = this.bytes.readUIntLE(offset + 56, 6);
    return { epoch: this.bytes.readUInt32LE(offset + 48), first, last: first + this.bytes.readUInt32LE(offset + 52) };
  }

  private headerChecksum(offset: number): number {
    return crc32(this.bytes.subarray(offset + 8, offset + 40), this.seed);
  }

  private insertChecksum(offset: number): number {
    return crc32(this.bytes.subarray(offset + 48, offset + 62), this.seed);
  }
}

function differingBits(a: number, b: number): number {
  let bits = 0;
  for (let difference = a ^ b; difference !== 0; difference &= difference - 1) bits++;
  return bits;
}
