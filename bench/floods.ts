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

const usage = `Measures the CPU time that the collector takes for a connection that sends hundreds of requests at once, with and without
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

const REQUESTS = 400;
const FLOOD =
  'POST /v1/traces HTTP/1.1\r\nHost: a\r\nX-Hive-Target-Ref: a/b/c\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}'.repeat(
    REQUESTS,
  );
const SUBJECTS = { with: '', without: 'parser-stop' };

/** Sends all at once and waits until the collector closes the connection. */
async function flood(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1').resume();
  // Errors other than the timeout are resets, as good as an end.
  const closed = once(
    socket.on('error', () => {}),
    'close',
    { signal: AbortSignal.timeout(TIMEOUT_MS) },
  );
  socket.write(FLOOD);
  await closed.catch((error: Error) => {
    if (error.name === 'AbortError') throw error;
  });
}

/** @returns CPU time of a connection, in ms */
async function measure(off: string): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-floods-'));
  const [closed] = await freePorts(1);
  try {
    const settings = { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: '64', NODE_INTERNALS_OFF: off };
    await using collector = await startCollector(`http://127.0.0.1:${closed}`, settings);
    const before = cpuSeconds(collector.pid);
    await Promise.all(Array.from({ length: connections }, () => flood(collector.port)));
    return ((cpuSeconds(collector.pid) - before) * 1000) / connections;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const steps = 2 * runs;
using progress = startProgress(`Compares the collector with and without parser-stop: ${runs} runs of each.`, {
  steps,
  seconds: steps * RUN_SECONDS,
});
const results = { with: [] as number[], without: [] as number[] };
for (let run = 1; run <= runs; run++) {
  for (const name of ['with', 'without'] as const) {
    progress.step(`run ${run} of ${runs}: ${name}`, RUN_SECONDS);
    results[name].push(await measure(SUBJECTS[name]));
  }
}
progress.clear();

function figure(took: readonly number[]): string {
  const { median, min, max } = spread(took);
  return `${median.toFixed(1)} (${min.toFixed(1)}–${max.toFixed(1)})`;
}
console.log(`CPU time of a connection with ${REQUESTS} requests, in ms:`);
console.table({ with: figure(results.with), without: figure(results.without) });
