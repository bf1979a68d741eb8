import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { freePorts } from '../test/support/servers/free-ports.ts';
import { startCollector } from './collector.ts';
import { cpuSeconds } from './process-usage.ts';
import { spread } from './statistics.ts';

const usage = `Measures the CPU time that the collector takes for a connection that sends far more at once than it may, with and without
parser-stop (NODE_INTERNALS_OFF). Both take turns. Run npm run build first.

npx node bench/floods.ts [options]

  --connections N   connections at the same time (default 200)
  --runs N          runs of each; the figures are medians (default 5)
`;
const values = commandLine(usage, { connections: { type: 'string', default: '200' }, runs: { type: 'string', default: '5' } });
const connections = positive('--connections', values.connections);
const runs = positive('--runs', values.runs);
/** Of a run with its start. */
const RUN_SECONDS = 8;
const TIMEOUT_MS = 60_000;

const HEAD = 'POST /v1/traces HTTP/1.1\r\nHost: a\r\nX-Hive-Target-Ref: a/b/c\r\nContent-Type: application/json\r\n';
const FLOODS: Readonly<Record<string, string>> = {
  '400 requests at once': `${HEAD}Content-Length: 2\r\n\r\n{}`.repeat(400),
  '100,000 chunks of one byte': `${HEAD}Transfer-Encoding: chunked\r\n\r\n${'1\r\n \r\n'.repeat(100_000)}`,
};
const SUBJECTS = { with: '', without: 'parser-stop' };

/** Sends all at once and waits until the collector closes the connection. */
async function flood(port: number, bytes: string): Promise<void> {
  const socket = connect(port, '127.0.0.1').resume();
  // Errors other than the timeout are resets, as good as an end.
  const closed = once(
    socket.on('error', () => {}),
    'close',
    { signal: AbortSignal.timeout(TIMEOUT_MS) },
  );
  socket.write(bytes);
  await closed.catch((error: Error) => {
    if (error.name === 'AbortError') throw error;
  });
}

/** @returns CPU time of a connection, in ms, by flood */
async function measure(off: string): Promise<readonly number[]> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-floods-'));
  const [closed] = await freePorts(1);
  try {
    const settings = { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: '64', NODE_INTERNALS_OFF: off };
    await using collector = await startCollector(`http://127.0.0.1:${closed}`, settings);
    const took: number[] = [];
    for (const bytes of Object.values(FLOODS)) {
      const before = cpuSeconds(collector.pid);
      await Promise.all(Array.from({ length: connections }, () => flood(collector.port, bytes)));
      took.push(((cpuSeconds(collector.pid) - before) * 1000) / connections);
    }
    return took;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const steps = 2 * runs;
using progress = startProgress(`Compares the collector with and without parser-stop: ${runs} runs of each.`, {
  steps,
  seconds: steps * RUN_SECONDS,
});
const results = { with: [] as (readonly number[])[], without: [] as (readonly number[])[] };
for (let run = 1; run <= runs; run++) {
  for (const name of ['with', 'without'] as const) {
    progress.step(`run ${run} of ${runs}: ${name}`, RUN_SECONDS);
    results[name].push(await measure(SUBJECTS[name]));
  }
}
progress.clear();

function figure(name: keyof typeof results, at: number): string {
  const { median, min, max } = spread(results[name].map((run) => run[at]));
  return `${median.toFixed(1)} (${min.toFixed(1)}–${max.toFixed(1)})`;
}
console.log('CPU time of a connection, in ms:');
console.table(
  Object.fromEntries(Object.keys(FLOODS).map((load, at) => [load, { with: figure('with', at), without: figure('without', at) }])),
);
