import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build, BUILD_SECONDS } from '../test/support/commands/build.ts';
import { startClickHouse, type TestClickHouse } from '../test/support/servers/clickhouse.ts';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { runLoad, startCollector } from './collector.ts';

/*
 * An outage of ClickHouse under steady load, and the recovery: how fast the disk buffer drains, and how that affects the senders, which
 * keep sending.
 */

const usage = `Stops ClickHouse under steady load, and measures how the disk buffer drains afterwards.

npm run bench:drain -- [options]

  --outage N           seconds (default 60)
  --rate N             requests per second (default 100)
  --spans N            spans per request (default 517)
  --disk-buffer-mb N   DISK_BUFFER_MAX_SIZE_MB (default 1024)
`;
const values = commandLine(usage, {
  outage: { type: 'string', default: '60' },
  rate: { type: 'string', default: '100' },
  spans: { type: 'string', default: '517' },
  'disk-buffer-mb': { type: 'string', default: '1024' },
});
const outageSeconds = positive('--outage', values.outage);
const spansPerRequest = positive('--spans', values.spans);
const load = { encoding: 'protobuf', spansPerRequest, connections: 16, rate: positive('--rate', values.rate) } as const;
const STEADY_SECONDS = 5;
const SLICE_SECONDS = 2;

/** An estimate: it depends on the speed of ClickHouse. */
const DRAIN_SECONDS = 10;

using progress = startProgress('Builds the collector, then stops ClickHouse under steady load.', {
  steps: 5,
  seconds: BUILD_SECONDS + outageSeconds + DRAIN_SECONDS + 2 * (STEADY_SECONDS + 2),
});
await build(progress);
const dir = mkdtempSync(join(tmpdir(), 'bench-drain-'));
const phases: Record<string, { seconds: number; 'spans/s': number; refused: number; 'ack p50 ms': number; 'ack p99 ms': number }> = {};

async function run(phase: string, port: number, seconds: number): Promise<number> {
  const { p50Ms, p99Ms, refused, acknowledgedSpans, seconds: took } = await runLoad({ ...load, port, seconds });
  phases[phase] = {
    seconds: round(took),
    'spans/s': Math.round(acknowledgedSpans / took),
    refused,
    'ack p50 ms': round(p50Ms),
    'ack p99 ms': round(p99Ms),
  };
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
  await using collector = await startCollector(clickhouse.url, {
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: dir,
    DISK_BUFFER_MAX_SIZE_MB: values['disk-buffer-mb'],
  });
  const { port } = collector;
  progress.step('steady load before the outage', STEADY_SECONDS + 2);
  let acknowledged = await run('before', port, STEADY_SECONDS);
  await collector.drained();

  progress.step('ClickHouse is down', outageSeconds);
  await clickhouse.kill();
  acknowledged += await run('outage', port, outageSeconds);
  const usedMb = ((await collector.metric('hive_collector_disk_buffer_used_bytes')) ?? 0) / 1024 ** 2;

  progress.step('the disk buffer drains', DRAIN_SECONDS);
  await clickhouse.restart();
  const begin = performance.now();
  const storedAtBegin = await storedSpans(clickhouse);
  const backlog = acknowledged - storedAtBegin;
  // Blocks are inserted in order: once this many spans are stored, so is the whole backlog.
  const caughtUp = new AbortController();
  const drained = untilStored(clickhouse, acknowledged)
    .then((stored) => ({ stored, seconds: (performance.now() - begin) / 1000 }))
    .finally(() => caughtUp.abort());
  for (let slice = 1; !caughtUp.signal.aborted; slice++) acknowledged += await run(`draining ${slice}`, port, SLICE_SECONDS);
  const { stored, seconds } = await drained;
  progress.step('steady load after the outage', STEADY_SECONDS + 2);
  acknowledged += await run('after', port, STEADY_SECONDS);
  await collector.drained();

  progress.clear();
  console.table(phases);
  console.log(
    `backlog: ${backlog} spans, ${Math.round(usedMb)} MB. It was stored ${round(seconds)} s after ClickHouse was back, ` +
      `at ${Math.round((stored - storedAtBegin) / seconds)} spans/s, new ones included`,
  );
  console.log(`acknowledged ${acknowledged}, stored ${await storedSpans(clickhouse)}`);
}
rmSync(dir, { recursive: true });
