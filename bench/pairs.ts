import { resolve } from 'node:path';
import { commandLine, misused, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { runLoad, type Server } from './collector.ts';
import { warmUpSeconds, type Scenario } from './end-to-end.ts';
import { cpuNs } from './process-usage.ts';
import { markdown } from './report.ts';
import { scenarios } from './scenarios.ts';
import { median } from './statistics.ts';
import { collector } from './subjects.ts';

/** Each answer of /metrics costs a collector 1.5 ms of CPU time, which counts as part of the load. No time is measured here. */
const POLL_MS = 250;

const usage = `Compares the CPU time per span of several builds of the collector, or of one build with several settings. All run at the same
time and get a second of load in turn, so that noise affects all of them alike: on a noisy machine, two processes of the same build differ
by 1 to 3 %, where npm run bench shows 10 to 20 %. The figures are medians over all turns; each round has new processes.

npx node bench/pairs.ts --build DIR --build DIR [options]

  --build DIR[@NAME=VALUE,…]  a checkout that is built (DIR/dist), with settings; all others are compared with the first one.
                              The same one twice shows the noise
  --scenario TEXT             only scenarios of npm run bench whose names contain TEXT; can be repeated
  --memory                    without the disk buffer
  --rounds N                  rounds per scenario (default 3)
  --turns N                   turns of each in a round (default 10)
  --seconds N                 seconds of load in a turn (default 1)
`;
const values = commandLine(usage, {
  build: { type: 'string', multiple: true, default: [] },
  scenario: { type: 'string', multiple: true, default: [''] },
  memory: { type: 'boolean', default: false },
  rounds: { type: 'string', default: '3' },
  turns: { type: 'string', default: '10' },
  seconds: { type: 'string', default: '1' },
});
const seconds = positive('--seconds', values.seconds);
const rounds = positive('--rounds', values.rounds);
const turns = positive('--turns', values.turns);

const builds = values.build.map((title) => {
  const [dir, settings = ''] = title.split('@');
  const pairs = settings === '' ? [] : settings.split(',').map((setting) => setting.split('=') as [string, string]);
  const mode = values.memory ? 'memory' : 'disk buffer';
  return { title, subject: collector(title, mode, Object.fromEntries(pairs), resolve(dir, 'dist')) };
});
if (builds.length === 0) misused('No --build is given.');
const wanted = scenarios(seconds).filter(({ name, isIdle }) => !isIdle && values.scenario.some((text) => name.includes(text)));
if (wanted.length === 0) misused(`No scenario's name contains ${values.scenario.join(' or ')}.`);

using progress = startProgress(`Compares ${builds.length} builds in ${wanted.length} scenarios, ${rounds} times.`, {
  steps: wanted.length * rounds,
  seconds: rounds * wanted.reduce((sum, scenario) => sum + roundSeconds(scenario), 0),
});
await using clickhouse = await startClickHouse();
for (const scenario of wanted) {
  /** CPU µs per span by build, round and turn. */
  const measured: number[][][] = builds.map(() => []);
  for (let round = 1; round <= rounds; round++) {
    progress.step(`${scenario.name}: round ${round} of ${rounds}`, roundSeconds(scenario));
    const figures = await measureRound(scenario);
    for (const index of builds.keys()) measured[index].push(figures[index]);
  }
  const rows = builds.map(({ title }, index) => {
    const ratios = measured[index].map((figures, round) => figures.map((figure, turn) => figure / measured[0][round][turn]));
    const byRound = ratios.map((ofRound) => median(ofRound).toFixed(2)).join(', ');
    return [title, median(measured[index].flat()).toFixed(2), median(ratios.flat()).toFixed(3), byRound];
  });
  progress.clear();
  console.log(`${markdown([scenario.name, 'CPU µs a span', 'ratio to the first', 'in each round'], rows)}\n`);
}

/** Starts all builds and loads them in turn. @returns CPU µs per span by build and turn */
async function measureRound(scenario: Scenario): Promise<number[][]> {
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await using stack = new AsyncDisposableStack();
  const running: Server[] = [];
  for (const { subject } of builds) running.push(stack.use(await subject.start(clickhouse.url)));
  for (const server of running) {
    await cpuUsPerSpan(server, { ...scenario, rate: undefined, seconds: warmUpSeconds(seconds, undefined) });
    await cpuUsPerSpan(server, { ...scenario, seconds: warmUpSeconds(seconds, scenario.rate) });
  }
  const figures: number[][] = builds.map(() => []);
  for (let turn = 0; turn < turns; turn++) {
    const order = turn % 2 === 0 ? [...running.keys()] : [...running.keys()].toReversed();
    for (const index of order) figures[index].push(await cpuUsPerSpan(running[index], scenario));
  }
  return figures;
}

async function cpuUsPerSpan(server: Server, { others, ...own }: Scenario): Promise<number> {
  const { pid, port } = server;
  const before = cpuNs(pid);
  const loads = [runLoad({ ...own, port }), ...(others === undefined ? [] : [runLoad({ ...others, seconds: own.seconds, port })])];
  const spans = (await Promise.all(loads)).reduce((sum, { acknowledgedSpans }) => sum + acknowledgedSpans, 0);
  await server.drained(spans, POLL_MS);
  return (cpuNs(pid) - before) / 1000 / spans;
}

/** The expected time of a round. A turn takes half a second more than its load, to start the load generator and for the last inserts. */
function roundSeconds({ rate }: Scenario): number {
  const warmUp = warmUpSeconds(seconds, undefined) + warmUpSeconds(seconds, rate);
  return builds.length * (2 + warmUp + turns * (seconds + 0.5));
}
