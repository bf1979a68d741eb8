import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isOff } from '../../src/runtime/internals.ts';
import { JSON_TYPE, PROTOBUF_TYPE, send } from '../support/clients/otlp-client.ts';
import { hostileProtobuf } from '../support/generators/hostile-bodies.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { canMakeCgroups, memoryCgroup } from '../support/servers/cgroup.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, type Environment, ingestThreadsMb, startCollector } from '../support/servers/collector.ts';

/*
 * A container of 256 MB, with no setting but the disk buffer: nothing gets it killed, and what does not fit is refused with its
 * reason. With several ingest threads it has 45 MB more for each, and the settings that follow from 256 MB. Where cgroups can't be made
 * these are skipped; `npm run memory:check` has more loads, and larger containers.
 */

const MB = 1024 ** 2;
const LIMIT_BYTES = (256 + ingestThreadsMb) * MB;
const SETTINGS: Environment = ingestThreadsMb === 0 ? {} : { MEM_BUFFER_SIZE_MB: '64', MAX_REQUEST_MB: '5', TRANSCODER_THREADS: '1' };
const TIMEOUT_MS = 240_000;
/** Whether V8 and malloc release the memory that is not used any more. */
const releasesMemory = !isOff('full-collection') && !isOff('malloc-trim');

let clickhouse: TestClickHouse;
const dir = mkdtempSync(join(tmpdir(), 'memory-'));
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(async () => {
  await clickhouse[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

const spans = (bytes: number) => {
  const { body } = gatewayProtobuf({ spans: 100, seed: 1 });
  return Buffer.alloc(Math.floor(bytes / body.length) * body.length, body);
};

test.skipIf(!canMakeCgroups())(
  'bodies that can never fit are answered 413, with the limit',
  async () => {
    await inContainer(SETTINGS, true, async (collector) => {
      // A reset may be all that a sender sees of it, as it is still sending.
      const tooLong = await sendAll(
        collector,
        Array.from({ length: 8 }, () => spans(60 * MB)),
      );
      expect(tooLong.filter((status) => status !== 413 && status !== 'reset')).toEqual([]);
      // How long a compressed one is shows while it is inflated: there may be no room for that now.
      const inflated = await sendAll(
        collector,
        Array.from({ length: 8 }, () => zstdCompressSync(spans(60 * MB))),
        { ...PROTOBUF_TYPE, 'content-encoding': 'zstd' },
      );
      expect(inflated.filter((status) => ![413, 429, 503, 'reset'].includes(status))).toEqual([]);
      const answer = await collector.send(zstdCompressSync(Buffer.alloc(60 * MB, ' ')), { ...JSON_TYPE, 'content-encoding': 'zstd' });
      expect(answer.status).toBe(413);
      expect(answer.body.toString()).toContain('larger than 5 MB (MAX_REQUEST_MB)');
    });
  },
  TIMEOUT_MS,
);

test.skipIf(!canMakeCgroups())(
  'the largest bodies of all shapes are stored or refused for now, and afterwards it takes spans as before',
  async () => {
    await inContainer(SETTINGS, true, async (collector) => {
      for (const shape of ['one long kvlist', 'attributes of distinct keys', 'doubles of 300 digits', 'long bytes']) {
        const statuses = await sendAll(
          collector,
          Array.from({ length: 4 }, () => hostileProtobuf[shape](4.9 * MB)),
        );
        expect(statuses.filter((status) => ![200, 400, 429, 503, 'reset'].includes(status))).toEqual([]);
      }
      await expectSpansTaken(collector);
    });
  },
  TIMEOUT_MS,
);

test.skipIf(!canMakeCgroups())(
  '64 bodies of 1 MB at once, ClickHouse away and the disk buffer on',
  async () => {
    await inContainer(
      { ...SETTINGS, ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: join(dir, 'ring'), DISK_BUFFER_MAX_SIZE_MB: '256' },
      false,
      async (collector) => {
        const statuses = await sendAll(
          collector,
          Array.from({ length: 64 }, () => spans(MB)),
        );
        expect(statuses.filter((status) => ![200, 429, 503, 'reset'].includes(status))).toEqual([]);
        expect(statuses).toContain(200);
        await expectSpansTaken(collector);
      },
    );
  },
  TIMEOUT_MS,
);

test.skipIf(!canMakeCgroups())(
  'where the process alone takes some 60 % of the limit, large bodies are refused, small ones go on, and it says why',
  async () => {
    // Without the internals, the process takes 82 MB instead of 51; with ingest threads more.
    const [limitMb, mostMb] = releasesMemory ? [88, 174] : [122, 182];
    await inContainer(
      { INGEST_THREADS: '1' },
      true,
      async (collector) => {
        expect(collector.output()).toContain(`The collector can use up to ${mostMb} MB, and the memory limit is ${limitMb} MB`);
        const large = await oneByOne(collector, spans(900_000), 20);
        expect(large.filter((status) => status !== 200 && status !== 503)).toEqual([]);
        const small = await oneByOne(collector, spans(41_000), 100);
        // Without them, V8 and malloc keep memory that they could release.
        if (releasesMemory) expect(small.filter((status) => status === 200).length, `small ones: ${small.join(' ')}`).toBeGreaterThan(90);

        const metrics = await collector.metrics();
        expect(metrics.get('hive_collector_resident_limit_bytes')).toBe(limitMb * MB);
        expect(metrics.get('hive_collector_resident_bytes')).toBeGreaterThan(40 * MB);
        const refused = metrics.get('hive_collector_backpressure_requests_total{reason="process_memory"}')!;
        expect(refused).toBe(large.filter((status) => status === 503).length + small.filter((status) => status === 503).length);
        expect(refused).toBeGreaterThan(0);
        expect(metrics.get('hive_collector_backpressure_requests_total{reason="memory"}')).toBe(0);
        expect(collector.output()).toContain('Requests are refused: the process is near its memory limit');
        const health = await send(`${collector.adminUrl}/health`, '', { method: 'GET' });
        expect(JSON.parse(health.body.toString())).toMatchObject({
          info: { collector: { process: { limitBytes: limitMb * MB, residentBytes: expect.any(Number) as number } } },
        });
      },
      limitMb * MB,
    );
  },
  TIMEOUT_MS,
);

/** Runs a collector with the limit of a container, and looks that nobody was killed for memory. */
async function inContainer(
  env: Environment,
  hasClickHouse: boolean,
  use: (collector: Collector) => Promise<void>,
  limitBytes = LIMIT_BYTES,
): Promise<void> {
  using cgroup = memoryCgroup(limitBytes);
  {
    await using collector = await startCollector({ ...(hasClickHouse && { clickhouse }), env, cgroup: cgroup.processes });
    await use(collector);
  }
  expect(cgroup.kills()).toBe(0);
}

function sendAll(
  collector: Collector,
  bodies: readonly Buffer[],
  headers: Readonly<Record<string, string>> = PROTOBUF_TYPE,
): Promise<(number | 'reset')[]> {
  return Promise.all(
    bodies.map((body) =>
      collector.send(body, headers).then(
        ({ status }) => status,
        () => 'reset' as const,
      ),
    ),
  );
}

async function oneByOne(collector: Collector, body: Buffer, count: number): Promise<number[]> {
  const statuses: number[] = [];
  for (let request = 0; request < count; request++) statuses.push((await collector.send(body, PROTOBUF_TYPE)).status);
  return statuses;
}

/** Senders repeat what is answered 503. */
async function expectSpansTaken(collector: Collector): Promise<void> {
  await expect.poll(async () => (await collector.send(spans(100_000))).status, { timeout: 20_000, interval: 500 }).toBe(200);
}
