import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { MappedFile } from '../../src/disk-buffer/mapped-file.ts';

const EXABYTE = 2 ** 60;

let path: string;
beforeEach(() => {
  const dir = mkdtempSync(join(tmpdir(), 'mapped-file-'));
  path = join(dir, 'ring');
  return () => rmSync(dir, { recursive: true });
});

test('a new file that is larger than the disk takes nothing from it', () => {
  expect(() => MappedFile.open(path, () => EXABYTE)).toThrow(
    /^The disk buffer needs \d+ bytes in .*, where [1-9]\d+ are free \(errno 28\)/,
  );
  expect(statSync(path)).toMatchObject({ size: 0, blocks: 0 });
});

test('a file that would become larger than the disk stays as it is', () => {
  const content = Buffer.alloc(100_000, 'spans');
  writeFileSync(path, content);
  expect(() => MappedFile.open(path, () => EXABYTE)).toThrow('errno 28');
  expect(readFileSync(path).equals(content)).toBe(true);
  const file = MappedFile.open(path, (_, presentBytes) => presentBytes);
  expect(file.bytes.equals(content)).toBe(true);
  file.close();
});
