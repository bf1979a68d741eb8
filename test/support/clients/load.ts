import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { gatewayProtobuf, hiveGatewayBatch, type Payload } from '../generators/payloads.ts';
import type { TestClickHouse } from '../servers/clickhouse.ts';
import { EXPORT, type GrpcClient } from './grpc-client.ts';
import { JSON_TYPE, PROTOBUF_TYPE, type Headers, send } from './otlp-client.ts';

/** One request of a load, and what came of it. All its traces are its own, and have SPANS_PER_TRACE spans each. */
export interface Sent {
  readonly traceIds: readonly string[];
  /** The answer's status, or the code of the error that took its place. */
  readonly outcome: number | string;
  readonly retryAfter: string | undefined;
  /** `performance.now()` when it was sent. */
  readonly sentAtMs: number;
}

export interface LoadOptions {
  /** Each sends one request at a time, over one connection, as an exporter does. */
  readonly senders?: number;
  readonly tracesPerRequest?: number;
  readonly headers?: Headers;
  /** Wait of a sender between its requests. */
  readonly pauseMs?: number;
  /** Wait after a request that was not taken; less than Retry-After asks for, as tests wait for nothing else. */
  readonly retryMs?: number;
}

export interface Load {
  /** Requests that have their answer, so far. */
  readonly sent: readonly Sent[];
  acknowledged(): number;
  /** Ends it. Resolves with all requests when the last has its answer. */
  stop(): Promise<readonly Sent[]>;
}

export const SPANS_PER_TRACE = 7;
/** Of each sender: a load that nobody stops ends. */
const MAX_REQUESTS = 20_000;

let nextSeed = 1_000_000;

/** Senders that go on sending until they are stopped, JSON and Protobuf in turns. Nothing is sent twice. */
export function startLoad(url: string, options: LoadOptions = {}): Load {
  const { senders = 16, tracesPerRequest = 2, headers = {}, pauseMs = 0, retryMs = 20 } = options;
  const sent: Sent[] = [];
  const stopping = new AbortController();

  async function sender(): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let request = 0; request < MAX_REQUESTS && !stopping.signal.aborted; request++) {
      const one = await sendOne(url, agent, tracesPerRequest, headers);
      sent.push(one);
      await delay(one.outcome === 200 ? pauseMs : retryMs);
    }
    agent.destroy();
  }

  const all = Promise.all(Array.from({ length: senders }, sender));
  return {
    sent,
    acknowledged: () => sent.reduce((count, { outcome }) => count + Number(outcome === 200), 0),
    async stop() {
      stopping.abort();
      await all;
      return sent;
    },
  };
}

/** The same as one request. */
export async function sendOne(url: string, agent?: Agent, traces = 1, headers: Headers = {}): Promise<Sent> {
  const sentAtMs = performance.now();
  const { body, traceIds, type } = nextRequest(traces);
  try {
    const answer = await send(`${url}/v1/traces`, body, { agent, headers: { ...type, 'x-hive-target-ref': 'target-1', ...headers } });
    return { traceIds, outcome: answer.status, retryAfter: answer.headers['retry-after'], sentAtMs };
  } catch (error) {
    return { traceIds, outcome: (error as NodeJS.ErrnoException).code ?? String(error), retryAfter: undefined, sentAtMs };
  }
}

/** The same as one call of gRPC. OK is 200; any other outcome is the name of its code. */
export async function callOne(client: GrpcClient, headers: Headers = {}): Promise<Sent> {
  const sentAtMs = performance.now();
  const { body, traceIds } = nextRequest(1, false);
  const { code, retryAfterSeconds } = await client.call(EXPORT, body, { 'x-hive-target-ref': 'target-1', ...headers });
  return { traceIds, outcome: code === 'OK' ? 200 : code, retryAfter: retryAfterSeconds?.toString(), sentAtMs };
}

/** The body of a request that no other call returns: JSON and Protobuf in turns, unless given. */
export function nextRequest(traces = 1, isJson = nextSeed % 2 === 0): Payload & { readonly type: Headers } {
  const payload = (isJson ? hiveGatewayBatch : gatewayProtobuf)({ spans: traces * SPANS_PER_TRACE, seed: nextSeed++ });
  return { ...payload, type: isJson ? JSON_TYPE : PROTOBUF_TYPE };
}

/** How often each outcome came. */
export function outcomes(sent: readonly Sent[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { outcome } of sent) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** How many spans each stored trace has, and how many of them are distinct, by trace id. */
export type StoredTraces = ReadonlyMap<string, { readonly spans: number; readonly distinct: number }>;

/** All that the tables hold. */
export async function storedTraces(clickhouse: TestClickHouse, tables: readonly string[] = ['otel_traces']): Promise<StoredTraces> {
  const union = tables.map((table) => `SELECT TraceId, SpanId FROM ${table}`).join(' UNION ALL ');
  const rows = await clickhouse.query<{ TraceId: string; spans: string; distinct: string }>(
    `SELECT TraceId, count() AS spans, uniqExact(SpanId) AS distinct FROM (${union}) GROUP BY TraceId`,
  );
  return new Map(rows.map(({ TraceId, spans, distinct }) => [TraceId, { spans: Number(spans), distinct: Number(distinct) }]));
}

/**
 * Holds what is stored against what was answered: each request answered 200 is there once, every span of it; of any other,
 * each trace is there once or not at all; each 503 says when to come back.
 */
export async function expectStoredAsAnswered(
  clickhouse: TestClickHouse,
  sent: readonly Sent[],
  tables: readonly string[] = ['otel_traces'],
): Promise<void> {
  const traces = await storedTraces(clickhouse, tables);
  const stored = new Map([...traces].map(([traceId, { spans, distinct }]) => [traceId, `${spans} spans, ${distinct} of them distinct`]));
  const whole = `${SPANS_PER_TRACE} spans, ${SPANS_PER_TRACE} of them distinct`;
  const wrong: string[] = [];
  for (const { traceIds, outcome, retryAfter } of sent) {
    if (outcome === 503 && retryAfter === undefined) wrong.push('503 without Retry-After');
    for (const traceId of traceIds) {
      const found = stored.get(traceId) ?? 'nothing';
      if (found !== whole && (outcome === 200 || found !== 'nothing')) wrong.push(`${traceId} answered ${outcome}: ${found}`);
    }
  }
  expect(wrong).toEqual([]);
}
