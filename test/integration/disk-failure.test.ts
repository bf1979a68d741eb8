import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { DiskBuffer } from '../../src/disk-buffer/disk-buffer.service.ts';
import { send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { type SpanAccounts, accountsOf, expectBalance } from '../support/oracle/span-accounts.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { parseMetrics, until } from '../support/servers/collector.ts';

/* The accounts while the disk of the disk buffer fails. A disk can't be made to fail here: the call that would say so is replaced. */

const SPANS = 7;

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'disk-failure-'));
  return () => rmSync(dir, { recursive: true });
});

test.each([
  ['received', 'refuse', { status: 200, accepted: SPANS, refused: 0, storedAfterRefusal: 0 }],
  ['received', 'memory', { status: 200, accepted: SPANS, refused: 0, storedAfterRefusal: 0 }],
  ['durable', 'refuse', { status: 503, accepted: 0, refused: SPANS, storedAfterRefusal: SPANS }],
] as const)(
  'ACK_MODE=%s, DISK_BUFFER_ON_ERROR=%s: what is in the ring is stored, lost to nobody, and counted once',
  async (ACK_MODE, DISK_BUFFER_ON_ERROR, { status, ...counted }) => {
    await using collector = await startApp({
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_CREATE_SCHEMA: 'true',
      DISABLE_AUTH: 'true',
      ENABLE_DISK_BUFFER: 'true',
      DISK_BUFFER_DIR: dir,
      DISK_BUFFER_MAX_SIZE_MB: '8',
      DISK_BUFFER_SYNC: 'always',
      BATCH_TIMEOUT_MS: '50',
      ACK_MODE,
      DISK_BUFFER_ON_ERROR,
    });
    const ring = collector.app.get(DiskBuffer).ring!;
    const failing = vi.spyOn(ring, 'sync').mockRejectedValue(new Error('EIO'));

    expect((await sendSpans(collector)).status).toBe(status);
    await until(async () => (await accounts(collector)).sent === SPANS, 'the spans are stored');
    const atTheEnd = await accounts(collector);
    expect(atTheEnd).toMatchObject({ ...counted, sent: SPANS, buffered: 0, dropped: 0 });
    expectBalance(atTheEnd);
    expect(failing).toHaveBeenCalled();
    failing.mockRestore();
  },
);

function sendSpans({ urls }: TestApp) {
  return send(`${urls.otlp}/v1/traces`, gatewayProtobuf({ spans: SPANS, seed: 1 }).body, {
    headers: { 'content-type': 'application/x-protobuf', 'x-hive-target-ref': 'target-1' },
  });
}

async function accounts({ urls }: TestApp): Promise<SpanAccounts> {
  return accountsOf(parseMetrics(await (await fetch(`${urls.admin}/metrics`)).text()));
}
