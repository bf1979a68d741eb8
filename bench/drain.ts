import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startClickHouse, type TestClickHouse } from '../test/support/servers/clickhouse.ts';
import { runLoad, startCollector } from './collector.ts';

/*
 * An outage of ClickHouse under steady load, and what comes after it: how fast the disk buffer drains, and what that does
 * to the senders, who go on all the while. `npm run bench:drain -- --outage 60 --rate 100`.
 */

const { values } = parseArgs({
  options: {
    outage: { type: 'string', default: '60' },
    rate: { type: 'string', default: '100' },
    spans: { type: 'string', default: '517' },
    'disk-buffer-mb': { type: 'string', default: '1024' },
  },
});
const load = { encoding: 'protobuf', spansPerRequest: Number(values.spans), connections: 16, rate: Number(values.rate) } as const;
const STEADY_SECONDS = 5;
const SLICE_SECONDS = 2;

const dir = mkdtempSync(join(tmpdir(), 'bench-drain-'));
const phases: Record<string, { seconds: number; 'spans/s': number; refused: number; 'ack p50 ms': number; 'ack p99 ms': number }> = {};

async function run(phase: string, port: number, seconds: number): Promise<number> {
  const { p50Ms, p99Ms, refused, acknowledgedSpans, seconds: took } = await runLoad({ ...load, port, seconds });
  phases[phase] = { seconds: round(took), 'spans/s': Math.round(acknowledgedSpans / took), refused, 'ack p50 ms': round(p50Ms), 'ack p99 ms': round(p99Ms) };
  return acknowledgedSpans;
}

async function storedSpans(clickhouse: TestClickHouse): Promise<number> {
  const [{ stored }] = await clickhouse.query<{ stored: string }>('SELECT count() AS stored FROM otel_traces');
  return Number(stored);
}

async function untilStored(clickhouse: TestClickHouse, spans: number): Promise<number> {
  for (;;) {
    const stored = await storedSpans(clickhouse);
    if (stored >= spans) return stored;
    await sleep(100);
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

{
  await using clickhouse = await startClickHouse();
  await using collector = await startCollector(clickhouse.url, { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: values['disk-buffer-mb'] });
  const { port } = collector;
  let acknowledged = await run('before', port, STEADY_SECONDS);
  await collector.drained();

  await clickhouse.kill();
  acknowledged += await run('outage', port, Number(values.outage));
  const usedMb = ((await collector.metric('hive_collector_disk_buffer_used_bytes')) ?? 0) / 1024 ** 2;

  await clickhouse.restart();
  const begin = performance.now();
  const storedAtBegin = await storedSpans(clickhouse);
  const backlog = acknowledged - storedAtBegin;
  // The oldest go first: as soon as this many are stored, the backlog is.
  const caughtUp = new AbortController();
  const drained = untilStored(clickhouse, acknowledged)
    .then((stored) => ({ stored, seconds: (performance.now() - begin) / 1000 }))
    .finally(() => caughtUp.abort());
  for (let slice = 1; !caughtUp.signal.aborted; slice++) acknowledged += await run(`draining ${slice}`, port, SLICE_SECONDS);
  const { stored, seconds } = await drained;
  acknowledged += await run('after', port, STEADY_SECONDS);
  await collector.drained();

  console.table(phases);
  console.log(`backlog: ${backlog} spans, ${Math.round(usedMb)} MB. It was stored ${round(seconds)} s after ClickHouse was back, at ${Math.round((stored - storedAtBegin) / seconds)} spans/s, new ones included`);
  console.log(`acknowledged ${acknowledged}, stored ${await storedSpans(clickhouse)}`);
}
rmSync(dir, { recursive: true });
