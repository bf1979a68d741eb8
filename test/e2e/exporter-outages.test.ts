import { setTimeout as delay } from 'node:timers/promises';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { BasicTracerProvider, type ReadableSpan, SimpleSpanProcessor, type SpanExporter } from '@opentelemetry/sdk-trace-base';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { accept, hangUp, startHive } from '../integration/auth-hive.ts';
import { storedRows } from '../support/oracle/stored-rows.ts';
import { type ClickHouseProxy, startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector } from '../support/servers/collector.ts';

/*
 * What OpenTelemetry's exporter for JavaScript, as it comes, delivers over an outage that begins with the export. It has 10 s
 * for an export with all its retries (src/otlp/refusal.ts). More rounds: `ROUNDS=10 npx vitest run test/e2e/exporter-outages.test.ts`.
 */

const ROUNDS = Number(process.env.ROUNDS ?? 1);
const OUTAGE_MS = 6_500;

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
let hive: Awaited<ReturnType<typeof startHive>>;
let collector: Collector;
beforeAll(async () => {
  [clickhouse, hive] = await Promise.all([startClickHouse({ systemLogs: false }), startHive(accept)]);
  proxy = await startProxy(clickhouse);
  collector = await startCollector({ clickhouse: proxy, env: { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: hive.url } });
});
afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await Promise.all([hive[Symbol.asyncDispose](), clickhouse[Symbol.asyncDispose]()]);
});

interface Outage {
  readonly begin: () => void;
  readonly end: () => void;
}

const OUTAGES: Readonly<Record<string, Outage>> = {
  'ClickHouse ends every connection': { begin: () => proxy.fail({ kind: 'cut request' }, 'all'), end: () => proxy.restore() },
  'ClickHouse answers nothing': { begin: () => proxy.fail({ kind: 'stall' }, 'all'), end: () => proxy.restore() },
  'the auth endpoint ends every connection': { begin: () => void (hive.answer = hangUp), end: () => void (hive.answer = accept) },
  'the auth endpoint answers nothing': { begin: () => void (hive.answer = () => {}), end: () => void (hive.answer = accept) },
};

test.each(Object.entries(OUTAGES))(
  `nothing is lost while %s for ${OUTAGE_MS / 1000} s`,
  { timeout: 30_000 + ROUNDS * 15_000 },
  async (name, { begin, end }) => {
    const lost: string[] = [];
    for (let round = 1; round <= ROUNDS; round++) {
      const [span] = endedSpans();
      // A token that the collector does not know yet: with a known one, it would not have to ask.
      const headers = { Authorization: `Bearer ${name} ${round}`, 'X-Hive-Target-Ref': 'the-guild/hive/production' };
      const exporter = new OTLPTraceExporter({ url: `${collector.url}/v1/traces`, headers });
      begin();
      const exported = new Promise<{ readonly code: number }>((resolve) => exporter.export([span], resolve));
      await delay(OUTAGE_MS);
      end();
      const { code } = await exported;
      await exporter.shutdown();
      const rows = await storedRows(clickhouse, [span.spanContext().traceId]);
      if (code !== 0 || rows.length !== 1) lost.push(`round ${round}: the exporter says ${code}, and ${rows.length} rows are stored`);
    }
    expect(lost).toEqual([]);
  },
);

/** What the SDK gives to an exporter. */
function endedSpans(): ReadableSpan[] {
  const spans: ReadableSpan[] = [];
  const collecting: SpanExporter = {
    export: (ended, done) => done({ code: Number(spans.push(...ended) === 0) }),
    shutdown: async () => {},
  };
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(collecting)] });
  provider.getTracer('outage').startSpan('a span').end();
  return spans;
}
