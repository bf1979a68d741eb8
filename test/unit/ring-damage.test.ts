import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { HEADER_BYTES, type InsertId, recordBytes, State } from '../../src/disk-buffer/record.ts';
import { Ring } from '../../src/disk-buffer/ring.ts';
import { RECORDS_START } from '../../src/disk-buffer/superblock.ts';
import { change, flip } from '../support/generators/damage.ts';
import { Random } from '../support/generators/random.ts';

const dir = mkdtempSync(join(tmpdir(), 'ring-damage-'));
afterAll(() => rmSync(dir, { recursive: true }));

const RING_BYTES = 131_072;
let path = '';
let files = 0;
beforeEach(() => {
  path = join(dir, `ring-${files++}`);
});

const PAYLOADS = ['first', 'second', 'third', 'fourth'].map((name) => name.repeat(50));

/** A ring with four records in it, closed. */
function ringWithFour(): void {
  const ring = Ring.open(path, RING_BYTES);
  for (const payload of PAYLOADS) ring.append(Buffer.from(payload), 10, 1000);
  ring.close();
}

/** The same four, of which the first ones are on their way. */
function ringWithAnInsertOf(records: number): InsertId {
  ringWithFour();
  const ring = Ring.open(path, RING_BYTES);
  const { epoch, first, last } = ring.take(records * 10, 1e9)!;
  ring.close();
  return { epoch, first, last };
}

/** What a start finds waiting, and what it says is broken. */
function reopen() {
  const ring = Ring.open(path, RING_BYTES);
  const waiting = ring.take(1e9, 1e9)?.records.map(({ frame }) => frame.toString()) ?? [];
  const { damage } = ring;
  ring.close();
  return { waiting, damage };
}

/** Where record number `index` of `ringWithFour` begins. */
function offsetOf(index: number): number {
  return PAYLOADS.slice(0, index).reduce((sum, payload) => sum + recordBytes(payload.length), RECORDS_START);
}

const without = (index: number) => PAYLOADS.filter((_, i) => i !== index);

describe('a damaged record', () => {
  const places = {
    magic: 0,
    'header checksum': 4,
    'payload length': 8,
    'payload checksum': 12,
    sequence: 16,
    'row count': 24,
    kind: 28,
    'payload length, high half': 30,
    time: 32,
  };
  test.each(Object.entries(places))('with a flipped bit in its %s costs that record alone', (_, place) => {
    ringWithFour();
    change(path, offsetOf(1) + place, flip);
    expect(reopen()).toEqual({ waiting: without(1), damage: [{ offset: offsetOf(1), records: 1, reason: 'header' }] });
  });

  test('with a flipped bit in its payload costs that record alone', () => {
    ringWithFour();
    change(path, offsetOf(2) + HEADER_BYTES + 17, flip);
    expect(reopen()).toEqual({ waiting: without(2), damage: [{ offset: offsetOf(2), records: 1, reason: 'payload' }] });
  });

  test('that is the first one does not hide the others', () => {
    ringWithFour();
    change(path, offsetOf(0), (bytes) => bytes.fill(0, 0, HEADER_BYTES));
    expect(reopen()).toEqual({ waiting: without(0), damage: [{ offset: offsetOf(0), records: 1, reason: 'header' }] });
  });

  test('is reported once: what is left of the ring is whole at the next start', () => {
    ringWithFour();
    change(path, offsetOf(1), flip);
    reopen();
    const ring = Ring.open(path, RING_BYTES);
    expect(ring.damage).toEqual([]);
    expect(ring.replays.flatMap(({ records }) => records.map(({ frame }) => frame.toString()))).toEqual(without(1));
    ring.complete(ring.replays[0], State.inserted);
    ring.saveTail();
    ring.confirm();
    expect(ring.usedBytes).toBe(0);
    ring.close();
  });

  test.each([62, 63])('with a flipped bit in its state (byte %i) keeps the state it had', (place) => {
    ringWithFour();
    change(path, offsetOf(1) + place, flip);
    expect(reopen()).toEqual({ waiting: PAYLOADS, damage: [] });
  });

  const insertPlaces = { checksum: 40, epoch: 48, length: 52, 'first sequence': 56 };
  test.each(Object.entries(insertPlaces))(
    'with a flipped bit in the %s of its insert is sent in that very insert, whose other records tell',
    (_, place) => {
      const sent = ringWithAnInsertOf(3);
      change(path, offsetOf(1) + place, flip);
      const ring = Ring.open(path, RING_BYTES);
      expect(ring.damage).toEqual([]);
      expect(ring.replays.map(({ epoch, first, last, records }) => ({ epoch, first, last, records: records.length }))).toEqual([
        { ...sent, records: 3 },
      ]);
      ring.close();
    },
  );

  test('whose insert nobody can tell is sent again, and reported', () => {
    ringWithAnInsertOf(1);
    change(path, offsetOf(0) + 48, flip);
    expect(reopen()).toEqual({ waiting: PAYLOADS, damage: [{ offset: offsetOf(0), records: 0, reason: 'insert' }] });
  });

  test('several side by side are counted by their number', () => {
    ringWithFour();
    change(path, offsetOf(1), (bytes) => bytes.fill(0xff, 0, offsetOf(3) - offsetOf(1)));
    expect(reopen()).toEqual({ waiting: [PAYLOADS[0], PAYLOADS[3]], damage: [{ offset: offsetOf(1), records: 2, reason: 'header' }] });
  });
});

describe('the end of the log', () => {
  test.each([0, 4, 8, 16, 30])('may be torn %i bytes into its last header: that record was never acknowledged', (kept) => {
    ringWithFour();
    change(path, offsetOf(3), (bytes) => bytes.fill(0, kept, HEADER_BYTES));
    expect(reopen()).toEqual({ waiting: without(3), damage: [] });
  });

  test('may be cut off with the file: what is left is taken', () => {
    ringWithFour();
    truncateSync(path, offsetOf(2));
    expect(reopen()).toEqual({ waiting: PAYLOADS.slice(0, 2), damage: [] });
    expect(statSync(path).size).toBe(RING_BYTES);
  });

  test('is not what a round before has left behind', () => {
    const ring = Ring.open(path, RING_BYTES);
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 20; i++) {
        ring.append(Buffer.alloc(1000 + i, round), 1, 0);
        // One stays, so that the ring does not start at its beginning again each time.
        if (i > 0) ring.complete(ring.take(1, 1)!, State.inserted);
        ring.saveTail();
        ring.confirm();
      }
    }
    const expected = ring.waiting.blocks;
    ring.close();
    expect(reopen().waiting).toHaveLength(expected);
  });
});

describe('superblocks', () => {
  test.each([0, 1])('survive one of them being torn (%i)', (index) => {
    ringWithFour();
    change(path, index * 4096, (bytes) => bytes.fill(0xaa, 20, 300));
    expect(reopen()).toEqual({ waiting: PAYLOADS, damage: [] });
  });

  test('both damaged: the start is refused, and nothing is changed', () => {
    ringWithFour();
    for (const index of [0, 1]) change(path, index * 4096 + 30, flip);
    const before = readFileSync(path);
    expect(() => Ring.open(path, RING_BYTES)).toThrow(/neither of its superblocks is valid/);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('of another version: the start is refused, and says which', () => {
    ringWithFour();
    for (const index of [0, 1]) change(path, index * 4096 + 8, (bytes) => bytes.writeUInt32LE(7));
    expect(() => Ring.open(path, RING_BYTES)).toThrow(/format version 7; this collector reads version 1/);
  });
});

describe('the file', () => {
  test('is one collector’s: a second one is told so', () => {
    const ring = Ring.open(path, RING_BYTES);
    const script = `import { Ring } from ${JSON.stringify(new URL('../../src/disk-buffer/ring.ts', import.meta.url).href)};
      try { Ring.open(${JSON.stringify(path)}, 1e5); } catch (error) { console.log(error.message); }`;
    const second = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(second.stdout).toContain('is in use by another collector');
    ring.close();
    Ring.open(path, RING_BYTES).close();
  });

  test('that does not fit the disk is refused with the directory, the bytes wanted and the bytes free', () => {
    expect(() => Ring.open(path, 2 ** 50)).toThrow(new RegExp(`needs ${2 ** 50} bytes in ${dir}, where \\d+ are free`));
  });

  test('keeps its size when another is configured', () => {
    ringWithFour();
    Ring.open(path, RING_BYTES * 4).close();
    expect(statSync(path).size).toBe(RING_BYTES);
  });

  test('opens, whatever random bytes of the records are overwritten, without a record that was not written', () => {
    ringWithFour();
    const whole = `${path}.whole`;
    copyFileSync(path, whole);
    const random = new Random(42);
    for (let round = 0; round < 300; round++) {
      copyFileSync(whole, path);
      for (let i = random.between(1, 20); i > 0; i--)
        change(path, random.between(RECORDS_START, offsetOf(4) + 500), (bytes) => bytes.writeUInt8(random.below(256)));
      const { waiting } = reopen();
      for (const payload of waiting) expect(PAYLOADS).toContain(payload);
    }
  });
});
