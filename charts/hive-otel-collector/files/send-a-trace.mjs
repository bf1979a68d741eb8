// What `helm test` runs: sends a trace as an OTLP exporter does, and reads it back from ClickHouse.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const { COLLECTOR_URL, TARGET_REF, TOKEN, CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE } = process.env;
const setting = (name) => (process.env[`${name}_FILE`] ? readFileSync(process.env[`${name}_FILE`], 'utf8').trimEnd() : process.env[name]);

const traceId = randomBytes(16).toString('hex');
const now = `${Date.now()}000000`;
const span = { traceId, spanId: randomBytes(8).toString('hex'), name: 'helm test', kind: 1, startTimeUnixNano: now, endTimeUnixNano: now };
const resource = { attributes: [{ key: 'service.name', value: { stringValue: 'helm-test' } }] };
const answer = await fetch(COLLECTOR_URL, {
  method: 'POST',
  headers: { 'content-type': 'application/json', 'x-hive-target-ref': TARGET_REF, ...(TOKEN && { authorization: `Bearer ${TOKEN}` }) },
  body: JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] }),
});
const text = await answer.text();
console.log(`Response of the collector: ${answer.status} ${text}`);
if (answer.status !== 200) process.exit(1);

const [clickhouse] = setting('CLICKHOUSE_URL').split(',');
const [database, table] = [CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE].map((name) => `\`${name.replace(/[\\`]/g, '\\$&')}\``);
const query = `SELECT count() FROM ${database}.${table} WHERE TraceId = '${traceId}'`;
const user = { 'x-clickhouse-user': setting('CLICKHOUSE_USERNAME') ?? 'default', 'x-clickhouse-key': setting('CLICKHOUSE_PASSWORD') ?? '' };
for (let second = 0; second < 30; second++) {
  const found = await fetch(clickhouse, { method: 'POST', headers: user, body: query });
  const rows = (await found.text()).trim();
  if (!found.ok) {
    console.log(`Response of ClickHouse: ${found.status} ${rows}`);
    process.exit(1);
  }
  if (rows === '1') {
    console.log('The trace is stored once.');
    process.exit(0);
  }
  await delay(1_000);
}
console.log('The trace is not stored after 30 s.');
process.exit(1);
