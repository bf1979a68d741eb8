import { parseArgs } from 'node:util';
import { startClickHouse } from '../test/support/clickhouse.ts';
import { strain } from '../test/support/health-probe.ts';
import { hostileLoads, startForHostileLoad } from '../test/support/hostile-load.ts';

/*
 * What hostile load does to the built collector: its memory, and how long /health takes meanwhile.
 * `node bench/hostile.ts --only bombs` runs the loads whose names hold that; `--threads 2` sets TRANSCODER_THREADS.
 * "of it CPU" is what the event loop ran in the poll in which it ran the most: the rest of a slow poll it had no processor.
 */

const { values } = parseArgs({ options: { only: { type: 'string', default: '' }, threads: { type: 'string', default: '1' } } });

await using clickhouse = await startClickHouse({ systemLogs: false });
const table: Record<string, unknown> = {};
for (const [name, load] of Object.entries(hostileLoads)) {
  if (!name.includes(values.only)) continue;
  await using collector = await startForHostileLoad(clickhouse, { TRANSCODER_THREADS: values.threads });
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
