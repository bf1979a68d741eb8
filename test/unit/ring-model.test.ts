import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { State } from '../../src/disk-buffer/record.ts';
import { Ring, type Assignment } from '../../src/disk-buffer/ring.ts';
import { Random } from '../support/generators/random.ts';

const dir = mkdtempSync(join(tmpdir(), 'ring-model-'));
afterAll(() => rmSync(dir, { recursive: true }));

interface ModelBlock {
  readonly content: string;
  readonly rows: number;
}

const contents = (assignment: Assignment) => assignment.records.map(({ frame }) => frame.toString('latin1'));

/** A ring beside plain arrays that hold what it should: waiting blocks in order, and inserts on their way. */
class Model {
  waiting: ModelBlock[] = [];
  onTheWay: Assignment[] = [];
  expected = new Map<Assignment, ModelBlock[]>();
  blocks = 0;

  constructor(
    readonly path: string,
    readonly bytes: number,
    public ring = Ring.open(path, bytes),
  ) {}

  append(random: Random): void {
    const rows = random.between(1, 50);
    const length = random.chance(0.1) ? random.between(1, this.bytes) : random.between(1, 3000);
    const content = `${this.blocks++}:`.padEnd(length, 'x');
    const range = this.ring.append(Buffer.from(content), rows, 1000);
    if (range === undefined) {
      // Refused only if there is reason to: a quarter of the ring is free at most, or the block is large.
      expect(this.ring.usedBytes + content.length * 2 + 256).toBeGreaterThan(this.ring.capacityBytes * 0.4);
      return;
    }
    this.waiting.push({ content, rows });
  }

  take(random: Random): void {
    const maxRows = random.between(1, 200);
    const assignment = this.ring.take(maxRows, 1e9);
    if (assignment === undefined) {
      expect(this.waiting).toEqual([]);
      return;
    }
    const taken = this.waiting.splice(0, assignment.records.length);
    expect(contents(assignment)).toEqual(taken.map(({ content }) => content));
    expect(assignment.records.map(({ rows }) => rows)).toEqual(taken.map(({ rows }) => rows));
    if (taken.length > 1) expect(taken.reduce((sum, { rows }) => sum + rows, 0)).toBeLessThanOrEqual(maxRows);
    this.expected.set(assignment, taken);
    this.onTheWay.push(assignment);
  }

  complete(random: Random): void {
    if (this.onTheWay.length === 0) return;
    const [assignment] = this.onTheWay.splice(random.between(0, this.onTheWay.length - 1), 1);
    this.expected.delete(assignment);
    this.ring.complete(assignment, random.chance(0.1) ? State.dead : State.inserted);
    this.ring.saveTail();
    this.ring.confirm();
  }

  /** The process ends, in order or not: the mapping is the kernel's, so there is no difference. */
  restart(): void {
    const before = this.onTheWay.map((assignment) => ({
      first: assignment.first,
      last: assignment.last,
      contents: this.expected.get(assignment)!.map(({ content }) => content),
    }));
    this.ring.close();
    this.ring = Ring.open(this.path, this.bytes);
    expect(this.ring.damage).toEqual([]);
    const after = this.ring.replays.map((assignment) => ({
      first: assignment.first,
      last: assignment.last,
      contents: contents(assignment),
    }));
    expect(after).toEqual(before.toSorted((a, b) => a.first - b.first));
    const expected = new Map<Assignment, ModelBlock[]>();
    for (const replay of this.ring.replays) {
      const [, blocks] = [...this.expected].find(([old]) => old.first === replay.first)!;
      expected.set(replay, blocks);
    }
    this.expected = expected;
    this.onTheWay = [...this.ring.replays];
  }

  check(): void {
    expect(this.ring.waiting).toEqual({
      blocks: this.waiting.length,
      rows: this.waiting.reduce((sum, { rows }) => sum + rows, 0),
      bytes: this.waiting.reduce((sum, { content }) => sum + content.length, 0),
    });
    if (this.waiting.length === 0 && this.onTheWay.length === 0) expect(this.ring.usedBytes).toBe(0);
    expect(this.ring.usedBytes).toBeLessThanOrEqual(this.ring.capacityBytes);
  }
}

describe('a ring beside a plain array', () => {
  const firstSeed = Number(process.env.SEED ?? 1);
  test.each(Array.from({ length: 40 }, (_, i) => firstSeed + i))('holds the same after any sequence of steps (SEED=%i)', (seed) => {
    const random = new Random(seed);
    const model = new Model(join(dir, `ring-${seed}`), random.pick([24_576, 65_536, 100_000, 262_144]));
    for (let step = 0; step < 600; step++) {
      const dice = random.between(0, 99);
      if (dice < 50) model.append(random);
      else if (dice < 72) model.take(random);
      else if (dice < 96) model.complete(random);
      else model.restart();
      model.check();
    }
    model.ring.close();
  });
});
