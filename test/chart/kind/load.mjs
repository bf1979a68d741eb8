// Sends traces for LOAD_SECONDS as exporters do, then compares what was acknowledged with what is stored. Runs in the collector's image.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

const { COLLECTOR_URL, CLICKHOUSE_URL, CLICKHOUSE_USERNAME = 'default', CLICKHOUSE_PASSWORD = '' } = process.env;
const LOAD_SECONDS = Number(process.env.LOAD_SECONDS ?? 300);
const SENDERS = Number(process.env.SENDERS ?? 8);
const SPANS = 20;
/** For pods that start late, and spans that wait in their disk buffers. */
const STORED_WITHIN_SECONDS = Number(process.env.STORED_WITHIN_SECONDS ?? 300);

/** Acknowledged at the first attempt: stored exactly once. */
const once = new Set();
/** Acknowledged after an attempt whose outcome the sender does not know: stored, and possibly twice. */
const retried = new Set();
let givenUp = 0;
const answers = {};

function requestOf(traceId) {
  const now = `${Date.now()}000000`;
  const times = { startTimeUnixNano: now, endTimeUnixNano: now };
  const span = () => ({ traceId, spanId: randomBytes(8).toString('hex'), name: 'load', kind: 1, ...times });
  const resource = { attributes: [{ key: 'service.name', value: { stringValue: 'kind-load' } }] };
  return JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: Array.from({ length: SPANS }, span) }] }] });
}

async function answerTo(body) {
  try {
    const headers = { 'content-type': 'application/json', 'x-hive-target-ref': 'kind' };
    const response = await fetch(COLLECTOR_URL, { method: 'POST', headers, body, signal: AbortSignal.timeout(10_000) });
    await response.arrayBuffer();
    return String(response.status);
  } catch (error) {
    return error.cause?.code ?? error.name;
  }
}

async function send(endMs) {
  while (Date.now() < endMs) {
    const traceId = randomBytes(16).toString('hex');
    const body = requestOf(traceId);
    for (let attempt = 1; ; attempt++) {
      const answer = await answerTo(body);
      answers[answer] = (answers[answer] ?? 0) + 1;
      if (answer === '200') {
        (attempt === 1 ? once : retried).add(traceId);
        break;
      }
      if (attempt === 30) {
        givenUp++;
        break;
      }
      await delay(1_000);
    }
    await delay(20);
  }
}

async function storedSpans() {
  const query = "SELECT TraceId, count() FROM otel_traces WHERE ServiceName = 'kind-load' GROUP BY TraceId FORMAT TSV";
  const headers = { 'x-clickhouse-user': CLICKHOUSE_USERNAME, 'x-clickhouse-key': CLICKHOUSE_PASSWORD };
  const response = await fetch(CLICKHOUSE_URL, { method: 'POST', headers, body: query });
  const text = await response.text();
  if (!response.ok) throw new Error(`ClickHouse answers ${response.status}: ${text}`);
  const rows = text.trim().split('\n').filter(Boolean).map((line) => line.split('\t'));
  return new Map(rows.map(([traceId, spans]) => [traceId, Number(spans)]));
}

const endMs = Date.now() + LOAD_SECONDS * 1_000;
await Promise.all(Array.from({ length: SENDERS }, () => send(endMs)));
const counts = `acknowledged: ${once.size} traces at once, ${retried.size} after retries; given up: ${givenUp}`;
console.log(`${counts}; answers: ${JSON.stringify(answers)}`);

let wrong = { lost: Infinity };
for (const untilMs = Date.now() + STORED_WITHIN_SECONDS * 1_000; Date.now() < untilMs; await delay(2_000)) {
  const stored = await storedSpans().catch((error) => console.log(error.message));
  if (stored === undefined) continue;
  wrong = {
    lost: [...once, ...retried].filter((traceId) => (stored.get(traceId) ?? 0) < SPANS).length,
    twice: [...once].filter((traceId) => stored.get(traceId) > SPANS).length,
    duplicatesAfterRetries: [...retried].filter((traceId) => stored.get(traceId) > SPANS).length,
  };
  if (wrong.lost === 0) break;
}
console.log(`traces: ${JSON.stringify(wrong)}`);
process.exit(once.size > 0 && wrong.lost === 0 && wrong.twice === 0 ? 0 : 1);
