import { setTimeout as delay } from 'node:timers/promises';
import { serverName } from '../src/config/server-url.ts';
import { INCIDENT } from './shop.ts';
import type { Load } from './load.ts';

export interface Stored {
  readonly clickhouseUrl: string;
  readonly clickhouseUser: string;
  readonly clickhousePassword: string;
  /** What `curl -u` is given. */
  readonly clickhouseLogin: string;
  /** database.table */
  readonly table: string;
  readonly run: string;
}

/** ClickHouse has it a moment after the acknowledgement, which the disk buffer gives. */
const STORED_TIMEOUT_MS = 30_000;

/** The run's spans in the table, once they are as many as expected; after some time, as many as there are. */
export async function countStored(stored: Stored, expected: number): Promise<number> {
  const deadlineMs = performance.now() + STORED_TIMEOUT_MS;
  for (;;) {
    const found = Number(await query(stored, `SELECT uniqExact(SpanId) FROM ${ofRun(stored)}`));
    if (found >= expected || performance.now() > deadlineMs) return found;
    await delay(100);
  }
}

export async function byOperation(stored: Stored): Promise<string> {
  return query(stored, `${operationsOf(stored)} SETTINGS output_format_pretty_color = 0, output_format_pretty_row_numbers = 0`);
}

export function tallyOf({ graphqlRequests, spans, answers }: Load, storedSpans: number): string {
  const sorted = answers.acknowledgedAfterMs.toSorted((one, other) => one - other);
  const percentile = (share: number) => `${sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]?.toFixed(1)} ms`;
  const refusals = Array.from(answers.refusals, ([status, times]) => `${times} × ${status}`).join(', ');
  const refused = refusals && `; refused at first: ${refusals}`;
  return `
  ${number(spans)} spans of ${number(graphqlRequests)} GraphQL requests sent
  ${number(answers.acknowledgedSpans)} spans acknowledged; p50 ${percentile(0.5)}, p99 ${percentile(0.99)}${refused}
  ${number(storedSpans)} spans stored
`;
}

/** What to look at, and what to ask. */
export function whatToTry(adminUrl: string, stored: Stored): string {
  return `
The status page: ${adminUrl}

Operations by time, as above:

  ${curl(stored, operationsOf(stored))}

The incident of ${INCIDENT.subgraph}, over time:

  ${curl(stored, subgraphsOf(stored))}

The slowest request, span by span:

  ${curl(stored, slowestOf(stored))}

Ctrl-C stops it. The data stays; \`npm run local\` uses it again.
`;
}

const operationsOf = (stored: Stored) =>
  `SELECT SpanAttributes['graphql.operation.name'] AS operation, count() AS requests, ` +
  `countIf(SpanAttributes['hive.graphql.error.count'] != '') AS failed, ` +
  `round(quantile(0.5)(Duration) / 1e6, 1) AS p50_ms, round(quantile(0.99)(Duration) / 1e6, 1) AS p99_ms ` +
  `FROM ${ofRun(stored)} AND ParentSpanId = '' GROUP BY operation ORDER BY requests DESC FORMAT PrettyCompactMonoBlock`;

const subgraphsOf = (stored: Stored) =>
  `SELECT toStartOfInterval(Timestamp, INTERVAL 5 SECOND) AS at, count() AS fetches, ` +
  `countIf(StatusCode = 'STATUS_CODE_ERROR') AS failed, round(quantile(0.5)(Duration) / 1e6, 1) AS p50_ms ` +
  `FROM ${ofRun(stored)} AND SpanName = 'subgraph.execute (${INCIDENT.subgraph})' ` +
  `GROUP BY at ORDER BY at FORMAT PrettyCompactMonoBlock`;

const slowestOf = (stored: Stored) =>
  `SELECT Timestamp, SpanName, round(Duration / 1e6, 1) AS ms, StatusMessage FROM ${stored.table} WHERE TraceId = ` +
  `(SELECT TraceId FROM ${ofRun(stored)} ORDER BY Duration DESC LIMIT 1) ORDER BY Timestamp FORMAT PrettyCompactMonoBlock`;

const ofRun = ({ table, run }: Stored) => `${table} WHERE ResourceAttributes['demo.run'] = '${run}'`;
const curl = ({ clickhouseUrl, clickhouseLogin }: Stored, sql: string) =>
  `curl -u ${clickhouseLogin} ${serverName(clickhouseUrl)} -d "${sql.replace(/[\\"$`]/g, '\\$&')}"`;
const number = (value: number) => value.toLocaleString('en');

async function query({ clickhouseUrl, clickhouseUser, clickhousePassword }: Stored, sql: string): Promise<string> {
  const headers = { 'X-ClickHouse-User': clickhouseUser, 'X-ClickHouse-Key': clickhousePassword };
  const answer = await fetch(clickhouseUrl, { method: 'POST', headers, body: sql });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return text;
}
