import { afterAll, beforeAll, expect, test } from 'vitest';
import { JSON_TYPE, send, statusOf, successOf } from '../support/clients/otlp-client.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { parseMetrics, until } from '../support/servers/collector.ts';

let clickhouse: TestClickHouse;
let collector: TestApp;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  collector = await startApp({
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_CREATE_SCHEMA: 'true',
    DISABLE_AUTH: 'true',
    SPAN_MAX_SIZE_KB: '1',
    TRANSCODE_INLINE_KB: '64',
  });
  await until(async () => (await send(`${collector.urls.admin}/ready`, '', { method: 'GET' })).status === 200, 'the app is ready');
});

afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

// The second one is large enough for a worker thread.
test.each([1, 100])(
  'spans over SPAN_MAX_SIZE_KB are left out of a request with %i of them, which is told so and counted',
  async (tooLarge) => {
    await clickhouse.command('TRUNCATE TABLE otel_traces');
    const before = await rejected();
    const spans = [
      { name: 'small', startTimeUnixNano: `${Date.now()}000000` },
      ...Array.from({ length: tooLarge }, () => ({ name: 'x'.repeat(1100) })),
      { name: 'bad', spanId: '1' },
    ];
    const answer = await post({ resourceSpans: [{ scopeSpans: [{ spans }] }] });

    expect(answer.status).toBe(200);
    expect(successOf(answer)).toEqual({
      partialSuccess: {
        rejectedSpans: String(tooLarge + 1),
        errorMessage: expect.stringMatching(/^1 span has an id.* larger than 1 KB \(SPAN_MAX_SIZE_KB\)\.$/),
      },
    });
    expect(await clickhouse.query('SELECT SpanName FROM otel_traces')).toEqual([{ SpanName: 'small' }]);
    expect(await rejected()).toEqual({ bad_id: before.bad_id + 1, too_large: before.too_large + tooLarge });
  },
);

test('a request of too many empty spans for its size is malformed', async () => {
  const answer = await post({ resourceSpans: [{ scopeSpans: [{ spans: Array.from({ length: 10_000 }, () => ({})) }] }] });
  expect(answer.status).toBe(400);
  expect(statusOf(answer).message).toContain('spans');
});

function post(request: object) {
  return send(`${collector.urls.otlp}/v1/traces`, JSON.stringify(request), { headers: { ...JSON_TYPE, 'x-hive-target-ref': 'target' } });
}

async function rejected(): Promise<{ bad_id: number; too_large: number }> {
  const text = (await send(`${collector.urls.admin}/metrics`, '', { method: 'GET' })).body.toString();
  expect(parseMetrics(text).has('hive_collector_rejected_spans_total')).toBe(true);
  const count = (reason: string) =>
    Number(new RegExp(`^hive_collector_rejected_spans_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(text)?.[1]);
  return { bad_id: count('bad_id'), too_large: count('too_large') };
}
