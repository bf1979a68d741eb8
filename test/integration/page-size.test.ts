import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, cpSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { DiskBuffer } from '../../src/disk-buffer/disk-buffer.service.ts';
import { State } from '../../src/disk-buffer/record.ts';
import { type Assignment, Ring } from '../../src/disk-buffer/ring.ts';
import { send } from '../support/clients/otlp-client.ts';
import { bytesField, fixed64Field, messageField, stringField } from '../support/generators/wire.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { type Kernel, libcOf } from '../support/servers/page-size.ts';

/* The disk buffer on kernels whose pages are larger than this one's: of arm64, with 16 or 64 KB. Calls that such a kernel refuses fail. */

const EBADF = 9;
const EINVAL = 22;

const kernel: Kernel = vi.hoisted(() => ({ pageBytes: 4096, calls: { sync: 0, forget: 0, load: 0 }, refused: [] }));

vi.mock(import('../../src/runtime/libc.ts'), async (importOriginal) => {
  const original = await importOriginal();
  return { ...original, loadLibc: () => libcOf(kernel, original.loadLibc()) };
});

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'page-size-'));
  Object.assign(kernel, { calls: { sync: 0, forget: 0, load: 0 }, refused: [] });
  return () => rmSync(dir, { recursive: true });
});

describe.each([4, 16, 64])('with pages of %i KB', (pageKb) => {
  beforeEach(() => {
    kernel.pageBytes = pageKb * 1024;
  });

  test.each(['interval', 'always'])(
    'DISK_BUFFER_SYNC=%s: every request is acknowledged, and a killed collector loses nothing',
    async (sync) => {
      let sent = 0;
      const before = await stored();
      const live = join(dir, 'live');
      const sendOne = async (app: TestApp) => expect((await sendSpan(app, ++sent)).status).toBe(200);
      {
        await using app = await start(clickhouse.url, live, sync);
        for (let turn = 0; turn < 12; turn++) {
          await sendOne(app);
          await sendOne(app);
          await until(() => app.app.get(DiskBuffer).ring!.usedBytes < 500_000, 'there is room again');
        }
        expect(app.app.get(DiskBuffer).queue!.diskFailure).toBeUndefined();
      }

      const [nobody] = await freePorts(1);
      const killed = join(dir, 'killed');
      {
        await using app = await start(`http://127.0.0.1:${nobody}`, live, sync);
        for (let turn = 0; turn < 5; turn++) await sendOne(app);
        await expectSynced(app);
        // What a kill leaves behind.
        cpSync(live, killed, { recursive: true });
      }

      await using app = await start(clickhouse.url, killed, sync);
      await until(async () => (await stored()) === before + sent, 'what was left behind is stored');
      expect(app.app.get(DiskBuffer).damagedRecords).toBe(0);
      expect(kernel.refused).toEqual([]);
      expect(kernel.calls.sync).toBeGreaterThan(10);
    },
  );

  test('a ring that is used from end to end again and again is synced, and leaves no page behind in memory', async () => {
    const ring = Ring.open(join(dir, 'ring'), 33 * 1024 ** 2 + 4096);
    let before: Assignment | undefined;
    let wraps = 0;
    let lastFrom = 0;
    for (let turn = 0; turn < 80; turn++) {
      const frame = randomBytes(1024 ** 2 + 137);
      const { from, to } = ring.append(frame, 1, Date.now())!;
      if (from < lastFrom) wraps++;
      lastFrom = from;
      await ring.sync(from, to);
      const assignment = ring.take(1, 1)!;
      expect(assignment.records[0].frame.equals(frame)).toBe(true);
      // There is always one left: an empty ring would begin at its start again.
      if (before !== undefined) ring.complete(before, State.inserted);
      before = assignment;
      const superblock = ring.saveTail();
      if (superblock !== undefined) await ring.sync(superblock.from, superblock.to);
      ring.confirm();
    }
    ring.close();
    expect(wraps).toBe(2);
    expect(kernel.refused).toEqual([]);
    expect(kernel.calls.forget).toBeGreaterThan(20);
    expect(kernel.calls.load).toBeGreaterThan(10);
  });
});

test('a sync that the kernel refuses shows at once', async () => {
  kernel.pageBytes = 4096;
  const ring = Ring.open(join(dir, 'ring'), 1024 ** 2);
  kernel.pageBytes = 16_384;
  // The ring was opened with the page size that the kernel had then.
  await expect(ring.sync(8192, 9000)).rejects.toThrow('msync failed (errno 22)');
  ring.close();
});

test('what this kernel refuses has its errno, also from another thread', async () => {
  const { loadLibc } = await vi.importActual<typeof import('../../src/runtime/libc.ts')>('../../src/runtime/libc.ts');
  const libc = loadLibc();
  expect(libc.pageBytes).toBe(Number(execFileSync('getconf', ['PAGESIZE'], { encoding: 'utf8' })));
  const path = join(dir, 'file');
  writeFileSync(path, Buffer.alloc(libc.pageBytes));
  const fd = openSync(path, 'r+');
  const { address } = libc.map(fd, libc.pageBytes) as { address: bigint };
  expect(libc.sync(address, libc.pageBytes)).toBe(0);
  expect(await libc.syncLater(address, libc.pageBytes)).toBe(0);
  expect(await libc.loadLater(address, libc.pageBytes)).toBe(0);
  expect([libc.sync(address + 8n, 8), await libc.syncLater(address + 8n, 8)]).toEqual([EINVAL, EINVAL]);
  expect([libc.forget(address + 8n, 8), await libc.loadLater(address + 8n, 8)]).toEqual([EINVAL, EINVAL]);
  closeSync(fd);
  expect([libc.lock(fd), libc.allocate(fd, 8), libc.map(fd, 8)]).toEqual([EBADF, EBADF, EBADF]);
});

function start(url: string, diskBufferDir: string, sync: string): Promise<TestApp> {
  return startApp({
    CLICKHOUSE_URL: url,
    CLICKHOUSE_CREATE_SCHEMA: 'true',
    DISABLE_AUTH: 'true',
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: diskBufferDir,
    DISK_BUFFER_MAX_SIZE_MB: '1',
    DISK_BUFFER_SYNC: sync,
    SHUTDOWN_TIMEOUT_MS: '1000',
    BATCH_TIMEOUT_MS: '20',
  });
}

/** Of interval and always alike. */
async function expectSynced({ app }: TestApp): Promise<void> {
  const { queue } = app.get(DiskBuffer);
  const before = kernel.calls.sync;
  await until(() => kernel.calls.sync > before || queue!.diskFailure !== undefined || kernel.calls.sync > 20, 'the ring was synced');
  expect(queue!.diskFailure).toBeUndefined();
}

/** A span of some 70 KB that does not compress. */
function sendSpan({ urls }: TestApp, number: number) {
  const now = BigInt(Date.now()) * 1_000_000n;
  const attribute = messageField(9, [stringField(1, 'bytes'), messageField(2, [bytesField(7, randomBytes(70_000))])]);
  const span = messageField(2, [
    bytesField(1, randomBytes(16)),
    bytesField(2, randomBytes(8)),
    stringField(5, `span ${number}`),
    fixed64Field(7, now),
    fixed64Field(8, now + 1n),
    attribute,
  ]);
  return send(`${urls.otlp}/v1/traces`, messageField(1, [messageField(2, [span])]), {
    headers: { 'content-type': 'application/x-protobuf', 'x-hive-target-ref': 'target-1' },
  });
}

async function stored(): Promise<number> {
  const [{ rows }] = await clickhouse.query<{ rows: string }>('SELECT count() AS rows FROM otel_traces').catch(() => [{ rows: '0' }]);
  return Number(rows);
}
