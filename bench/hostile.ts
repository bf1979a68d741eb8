import { mkdtempDisposableSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { strain } from '../test/support/clients/health-probe.ts';
import { hostileLoads, startForHostileLoad } from '../test/support/clients/hostile-load.ts';
import { startClickHouse, type TestClickHouse } from '../test/support/servers/clickhouse.ts';
import type { Environment } from '../test/support/servers/collector.ts';
import { type MixedOptions, runMixed } from './mixed.ts';

/*
 * What hostile load does to the built collector: its memory, and how long /health takes meanwhile.
 * `node bench/hostile.ts --only bombs` runs the loads whose names hold that; `--threads 2` sets TRANSCODER_THREADS;
 * `--disk-buffer` turns that on.
 * "of it CPU" is what the event loop ran in the poll in which it ran the most: the rest of a slow poll it had no processor.
 * `node bench/hostile.ts --mixed 300 --seed 7` runs loads and attacks in random order for so many seconds while good senders export,
 * and exits 1 if one of their requests was not answered 200 or not stored once, or if anything was stored without a 200.
 */

const { values, positionals: [seconds = '300'] } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: '1' },
    mixed: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    'disk-buffer': { type: 'boolean', default: false },
  },
});
using dir = mkdtempDisposableSync(join(tmpdir(), 'bench-hostile-'));
const settings: Environment = { TRANSCODER_THREADS: values.threads, ...(values['disk-buffer'] && { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir.path }) };

await using clickhouse = await startClickHouse({ systemLogs: false });
if (values.mixed) await mixed(clickhouse, { seconds: Number(seconds), seed: Number(values.seed) });
else await eachAlone(clickhouse);

async function mixed(server: TestClickHouse, options: MixedOptions): Promise<void> {
  await using collector = await startForHostileLoad(server, settings);
  const { table, isGood } = await runMixed(collector, server, options);
  console.table(table);
  if (!isGood) console.error(collector.output().slice(-2_000));
  process.exitCode = isGood ? 0 : 1;
}

async function eachAlone(server: TestClickHouse): Promise<void> {
  const table: Record<string, unknown> = {};
  for (const [name, load] of Object.entries(hostileLoads)) {
    if (!name.includes(values.only)) continue;
    await using collector = await startForHostileLoad(server, settings);
    const startMs = performance.now();
    const { peakRssMb, loopMaxMs, maxMs, ownMaxMs, p99Ms, failed } = await strain(collector, () => load(collector)).catch((error: unknown) => {
      console.error(name, error, collector.output().slice(-2_000));
      return { peakRssMb: Number.NaN, loopMaxMs: Number.NaN, maxMs: Number.NaN, ownMaxMs: Number.NaN, p99Ms: Number.NaN, failed: Number.NaN };
    });
    table[name] = {
      seconds: Math.round((performance.now() - startMs) / 1000),
      'peak RSS MB': Math.round(peakRssMb),
      'health p99 ms': Math.round(p99Ms),
      'health max ms': Math.round(maxMs),
      'of it CPU ms': Math.round(ownMaxMs),
      'loop max ms': Math.round(loopMaxMs),
      failed,
    };
    console.error(name, JSON.stringify(table[name]));
  }
  console.table(table);
}
