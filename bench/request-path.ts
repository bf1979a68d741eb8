import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { completed, expectedSeconds, measureEndToEnd, type Scenario } from './end-to-end.ts';
import { median } from './statistics.ts';
import { collector, diskBuffer, fastifyOnly, receiveOnly, type Subject, THIS_COLLECTOR } from './subjects.ts';

const usage = `Measures the cost of a small request apart from its spans: Node's HTTP server alone, with Fastify's router, and the collector
with plain requests and with requests that go through node:http and Nest. Run npm run build first.

npx node bench/request-path.ts [options]

  --runs N      runs of each; the figures are medians (default 3)
  --seconds N   seconds of load in a run (default 8)
`;
const values = commandLine(usage, { seconds: { type: 'string', default: '8' }, runs: { type: 'string', default: '3' } });
const runs = positive('--runs', values.runs);

const scenario: Scenario = {
  name: '11 spans',
  encoding: 'protobuf',
  spansPerRequest: 11,
  connections: 128,
  seconds: positive('--seconds', values.seconds),
};
/** A request with an Origin, as from browsers, goes through the router. */
const ORIGIN = 'http://localhost';
const throughRouters: Scenario = { ...scenario, headers: [`Origin: ${ORIGIN}`] };
const withCors = collector(THIS_COLLECTOR, 'disk buffer', { CORS_ALLOWED_ORIGINS: ORIGIN });

using progress = startProgress('Measures a small request with three servers, one of them twice.', {
  steps: 4 * runs,
  seconds: 4 * expectedSeconds([diskBuffer], [scenario], runs),
});

async function usPerRequest(subject: Subject, load: Scenario): Promise<Record<string, string | number>> {
  const figures = (await measureEndToEnd([subject], [load], runs, progress)).flatMap(completed);
  const us = figures.map(({ collectorCpuUsPerSpan }) => collectorCpuUsPerSpan * load.spansPerRequest);
  return {
    'CPU µs a request': Math.round(median(us)),
    least: Math.round(Math.min(...us)),
    most: Math.round(Math.max(...us)),
    'noise, cores': median(figures.map(({ noiseCores }) => noiseCores)).toFixed(2),
  };
}

const table = {
  [receiveOnly.name]: await usPerRequest(receiveOnly, scenario),
  [fastifyOnly.name]: await usPerRequest(fastifyOnly, scenario),
  'collector': await usPerRequest(diskBuffer, scenario),
  'collector, through the routers': await usPerRequest(withCors, throughRouters),
};
progress.clear();
console.table(table);
