import { setTimeout as delay } from 'node:timers/promises';
import type { OtlpRequest } from '../support/oracle/otlp-request.ts';
import { allRows } from '../support/oracle/stored-rows.ts';
import type { TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, type Environment, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { type Result, resultOf } from './comparison.ts';
import { javascriptExporter, sendWithJavaScript } from './javascript.ts';
import { comparedWithout, NO_LARGE_INTEGERS } from './limits.ts';
import { passesOn, startOtelcol } from './otelcol.ts';
import { type Encoding, TARGET } from './sender.ts';

/*
 * What the OpenTelemetry Collector has to send more than once: every span is stored, and stored once. That it was refused
 * is read off the collector's metrics.
 */

/** How long after the last span a second copy of one would be seen. */
const SETTLE_MS = 1_500;

interface Trouble {
  readonly name: string;
  readonly env: Environment;
  /** Goes on while the spans are sent; `end` ends it. */
  readonly begin: (world: World) => Promise<void>;
  readonly end: (world: World) => Promise<void>;
}

interface World {
  readonly clickhouse: TestClickHouse;
  collector: Collector;
  /** Another one in its place, on the same ports. */
  readonly startAgain: () => Promise<void>;
}

const TROUBLES: readonly Trouble[] = [
  {
    name: 'ClickHouse is away (503)',
    env: { ACK_TIMEOUT_MS: '1000' },
    begin: ({ clickhouse }) => clickhouse.kill(),
    async end({ clickhouse, collector }) {
      try {
        await until(async () => (await refused(collector, 503)) >= 2, 'the OpenTelemetry Collector is refused, and tries again');
      } finally {
        await clickhouse.restart();
      }
    },
  },
  {
    name: 'over its rate (429)',
    // Its burst is half of what comes: the first batch takes it all.
    env: { TARGET_MAX_SPANS_PER_SECOND: '90' },
    begin: async () => {},
    end: ({ collector }) => until(async () => (await refused(collector, 429)) >= 1, 'the OpenTelemetry Collector is refused'),
  },
  {
    name: 'the collector is restarted',
    env: {},
    begin: async ({ collector }) => void (await collector.stop()),
    async end({ startAgain }) {
      // Nothing is there to count its tries.
      await delay(1_000);
      await startAgain();
    },
  },
];

/** Each trouble with each way to send. */
export async function resultsOfRetries(request: OtlpRequest, program: string, clickhouse: TestClickHouse): Promise<Result[]> {
  const results: Result[] = [];
  for (const trouble of TROUBLES) {
    for (const encoding of ['proto', 'json', 'grpc'] as const) results.push(await retried(trouble, encoding, request, program, clickhouse));
  }
  return results;
}

async function retried(
  trouble: Trouble,
  encoding: Encoding,
  request: OtlpRequest,
  program: string,
  clickhouse: TestClickHouse,
): Promise<Result> {
  const [httpPort, grpcPort] = await freePorts(2);
  const start = () => startCollector({ clickhouse, env: { PORT: String(httpPort), GRPC_PORT: String(grpcPort), ...trouble.env } });
  const world: World = {
    clickhouse,
    collector: await start(),
    async startAgain() {
      world.collector = await start();
    },
  };
  try {
    await clickhouse.command('TRUNCATE TABLE otel_traces');
    const to = {
      httpUrl: `http://127.0.0.1:${httpPort}`,
      grpcUrl: `http://127.0.0.1:${grpcPort}`,
      headers: { 'x-hive-target-ref': TARGET },
    };
    await using otelcol = await startOtelcol(program, passesOn(to, encoding, 'gzip'));

    await trouble.begin(world);
    await sendWithJavaScript(request, javascriptExporter('proto', 'none', `${otelcol.url}/v1/traces`, {}));
    const failure = await trouble.end(world).then(() => undefined, String);

    const compared = comparedWithout(request, [NO_LARGE_INTEGERS]);
    await storedOrTooLate(clickhouse, compared.expected.length);
    await otelcol.stop();
    return resultOf({ name: `otelcol, ${trouble.name}`, encoding, compression: 'gzip', compared }, await allRows(clickhouse), failure);
  } finally {
    await world.collector[Symbol.asyncDispose]();
  }
}

/** Too few are a difference of the rows, as too many are. */
async function storedOrTooLate(clickhouse: TestClickHouse, spans: number): Promise<void> {
  await until(async () => (await allRows(clickhouse)).length >= spans, 'every span is stored').catch(() => {});
  await delay(SETTLE_MS);
}

/** How many requests have been refused with a status of HTTP, which gRPC's are counted by, too. */
async function refused({ adminUrl }: Collector, status: number): Promise<number> {
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text();
  return Number(new RegExp(`^hive_collector_refused_requests_total\\{status="${status}"\\} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0);
}
