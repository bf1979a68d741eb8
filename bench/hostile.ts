import { mkdtempDisposableSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startClickHouse, type TestClickHouse } from '../test/support/servers/clickhouse.ts';
import type { Environment } from '../test/support/servers/collector.ts';
import { commandLine, misused, positive } from '../test/support/commands/command-line.ts';
import { measureUnderLoad } from '../test/support/clients/health-probe.ts';
import { hostileLoads, startForHostileLoad } from '../test/support/clients/hostile-load.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { type MixedOptions, runMixed } from './mixed.ts';

/*
 * The effect of hostile load on the built collector: its memory, and the response time of /health. The column "of it CPU" is the most CPU
 * time that the event loop used during one poll. For the rest of a slow poll, other processes had the cores.
 */

const usage = `Puts hostile load on the built collector, and measures its memory and the response time of /health. Run npm run build first.

npx node bench/hostile.ts [options]

  --only TEXT      only loads whose names contain TEXT
  --threads N      TRANSCODER_THREADS (default 1)
  --disk-buffer    with the disk buffer
  --mixed N        loads and attacks in random order for N seconds, instead of one load after the other, while good senders export.
                   Exit code 1 if a request of theirs was not answered 200 or not stored once, or if anything was stored without a 200
  --seed N         seed of the random order (default 1)
`;
const values = commandLine(usage, {
  only: { type: 'string', default: '' },
  threads: { type: 'string', default: '1' },
  mixed: { type: 'string' },
  seed: { type: 'string', default: '1' },
  'disk-buffer': { type: 'boolean', default: false },
});
/** The expected time of one load, including the start of the collector. */
const LOAD_SECONDS = 12;

using dir = mkdtempDisposableSync(join(tmpdir(), 'bench-hostile-'));
const settings: Environment = {
  TRANSCODER_THREADS: values.threads,
  ...(values['disk-buffer'] && { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir.path }),
};

await using clickhouse = await startClickHouse({ systemLogs: false });
if (values.mixed === undefined) await eachAlone(clickhouse);
else await mixed(clickhouse, { seconds: positive('--mixed', values.mixed), seed: positive('--seed', values.seed) });

async function mixed(server: TestClickHouse, options: MixedOptions): Promise<void> {
  await using collector = await startForHostileLoad(server, settings);
  const { table, isGood } = await runMixed(collector, server, options);
  console.table(table);
  if (!isGood) console.error(collector.output().slice(-2_000));
  process.exitCode = isGood ? 0 : 1;
}

async function eachAlone(server: TestClickHouse): Promise<void> {
  const table: Record<string, unknown> = {};
  const loads = Object.entries(hostileLoads).filter(([name]) => name.includes(values.only));
  if (loads.length === 0) misused(`No load's name contains ${values.only}.`);
  using progress = startProgress(`Puts ${loads.length} hostile loads on the collector, one after the other.`, {
    steps: loads.length,
    seconds: loads.length * LOAD_SECONDS,
  });
  for (const [name, load] of loads) {
    progress.step(name, LOAD_SECONDS);
    await using collector = await startForHostileLoad(server, settings);
    const startMs = performance.now();
    const { peakRssMb, loopMaxMs, maxMs, cpuMaxMs, p99Ms, failed } = await measureUnderLoad(collector, () => load(collector)).catch(
      (error: unknown) => {
        progress.clear();
        console.error(name, error, collector.output().slice(-2_000));
        return {
          peakRssMb: Number.NaN,
          loopMaxMs: Number.NaN,
          maxMs: Number.NaN,
          cpuMaxMs: Number.NaN,
          p99Ms: Number.NaN,
          failed: Number.NaN,
        };
      },
    );
    table[name] = {
      seconds: Math.round((performance.now() - startMs) / 1000),
      'peak RSS MB': Math.round(peakRssMb),
      'health p99 ms': Math.round(p99Ms),
      'health max ms': Math.round(maxMs),
      'of it CPU ms': Math.round(cpuMaxMs),
      'loop max ms': Math.round(loopMaxMs),
      failed,
    };
    progress.line(`${name} ${JSON.stringify(table[name])}`);
  }
  progress.clear();
  console.table(table);
}
