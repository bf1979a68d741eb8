import { allRows } from '../support/oracle/stored-rows.ts';
import { type TestClickHouse, startClickHouse } from '../support/servers/clickhouse.ts';
import { startCollector } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { print, type Result, resultOf } from './comparison.ts';
import { javascriptSenders } from './javascript.ts';
import { otelcolSenders } from './otelcol-senders.ts';
import { requestItself } from './request-itself.ts';
import { resultsOfRetries } from './retries.ts';
import { pythonSenders, rustSenders } from './sdk-programs.ts';
import { type Destination, type Sender, TARGET } from './sender.ts';
import { everySpan } from './spans.ts';
import { telemetrygenSenders } from './telemetrygen.ts';
import { buildGo, buildRust, installPython, MissingToolchain } from './toolchains.ts';

/*
 * `npm run exporters`: other people's exporters send the same spans to the built collector, at every setting they have,
 * and the rows have to be the same. Needs python3 (with venv), cargo and go, and their registries when it runs for the
 * first time; without one of them, its senders are skipped. What it installs and builds goes to $EXPORTERS_CACHE, or
 * node_modules/.cache/exporters.
 */

const request = everySpan(Math.floor(Date.now() / 1000) - 3_600);

const python = await unlessMissing('The SDK for Python is', installPython);
const rust = await unlessMissing('The SDK for Rust is', buildRust);
const go = await unlessMissing('telemetrygen and the OpenTelemetry Collector are', buildGo);
const senders = [
  requestItself(request),
  ...javascriptSenders(request),
  ...(python === undefined ? [] : pythonSenders(request, python)),
  ...(rust === undefined ? [] : rustSenders(request, rust)),
  ...(go === undefined ? [] : telemetrygenSenders(go.telemetrygen)),
  ...(go === undefined ? [] : otelcolSenders(request, go.otelcol)),
];

await using clickhouse = await startClickHouse({ systemLogs: false });
const results = [
  ...(await resultsOf(senders, clickhouse)),
  ...(go === undefined ? [] : await resultsOfRetries(request, go.otelcol, clickhouse)),
];
print(results);
console.log("equal: all columns are what the spans have to become, except for what the sender can't send.");
if (results.some(({ difference }) => difference !== undefined)) process.exitCode = 1;

async function unlessMissing<Toolchain>(what: string, prepare: () => Promise<Toolchain>): Promise<Toolchain | undefined> {
  try {
    return await prepare();
  } catch (error) {
    if (!(error instanceof MissingToolchain)) throw error;
    console.log(`${what} skipped: ${error.message}.`);
    return undefined;
  }
}

async function resultsOf(all: readonly Sender[], server: TestClickHouse): Promise<Result[]> {
  const [grpcPort] = await freePorts(1);
  await using collector = await startCollector({ clickhouse: server, env: { GRPC_PORT: String(grpcPort) } });
  const to = { httpUrl: collector.url, grpcUrl: `http://127.0.0.1:${grpcPort}`, headers: { 'x-hive-target-ref': TARGET } };
  const found: Result[] = [];
  for (const sender of all) found.push(await sendAndCompare(sender, to, server));
  return found;
}

async function sendAndCompare(sender: Sender, to: Destination, server: TestClickHouse): Promise<Result> {
  await server.command('TRUNCATE TABLE otel_traces');
  const failure = await sender.send(to).then(() => undefined, String);
  return resultOf(sender, await allRows(server), failure);
}
