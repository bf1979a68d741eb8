import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { gatewayProtobuf, hiveGatewayBatch, type Payload } from '../generators/payloads.ts';
import type { TestClickHouse } from '../servers/clickhouse.ts';
import { EXPORT, type GrpcClient } from './grpc-client.ts';
import { JSON_TYPE, PROTOBUF_TYPE, type Headers, send } from './otlp-client.ts';

/** One request of a load, and its outcome. No other request has its traces, of SPANS_PER_TRACE spans each. */
export interface Sent {
  readonly traceIds: readonly string[];
  /** The status of the answer, or the code of the error. */
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
  /** How long a sender waits between its requests. */
  readonly pauseMs?: number;
  /** How long a sender waits after an answer other than 200. Shorter than Retry-After, so that tests are fast. */
  readonly retryMs?: number;
}

export interface Load {
  /** Requests that were answered or have failed so far. */
  readonly sent: readonly Sent[];
  /** Requests answered 200 so far. */
  acknowledged(): number;
  /** Stops the senders. Resolves with all requests after the last answer. */
  stop(): Promise<readonly Sent[]>;
}

export const SPANS_PER_TRACE = 7;
/** Requests of one sender, so that a load that is never stopped ends. */
const MAX_REQUESTS = 20_000;

let nextSeed = 1_000_000;

/** Starts senders that send JSON and Protobuf in turns until they are stopped. They retry nothing. */
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

/** Sends one request over HTTP. */
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

/** Sends one request over gRPC. The outcome is 200 for OK, and the name of the code otherwise. */
export async function callOne(client: GrpcClient, headers: Headers = {}): Promise<Sent> {
  const sentAtMs = performance.now();
  const { body, traceIds } = nextRequest(1, false);
  const { code, retryAfterSeconds } = await client.call(EXPORT, body, { 'x-hive-target-ref': 'target-1', ...headers });
  return { traceIds, outcome: code === 'OK' ? 200 : code, retryAfter: retryAfterSeconds?.toString(), sentAtMs };
}

/** A request that no other call returns: JSON and Protobuf in turns, unless `isJson` is given. */
export function nextRequest(traces = 1, isJson = nextSeed % 2 === 0): Payload & { readonly type: Headers } {
  const payload = (isJson ? hiveGatewayBatch : gatewayProtobuf)({ spans: traces * SPANS_PER_TRACE, seed: nextSeed++ });
  return { ...payload, type: isJson ? JSON_TYPE : PROTOBUF_TYPE };
}

/** The number of requests by outcome. */
export function outcomes(sent: readonly Sent[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { outcome } of sent) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** How many spans each stored trace has, and how many of them are distinct, by trace id. */
export type StoredTraces = ReadonlyMap<string, { readonly spans: number; readonly distinct: number }>;

/** All traces in the tables. */
export async function storedTraces(clickhouse: TestClickHouse, tables: readonly string[] = ['otel_traces']): Promise<StoredTraces> {
  const union = tables.map((table) => `SELECT TraceId, SpanId FROM ${table}`).join(' UNION ALL ');
  const rows = await clickhouse.query<{ TraceId: string; spans: string; distinct: string }>(
    `SELECT TraceId, count() AS spans, uniqExact(SpanId) AS distinct FROM (${union}) GROUP BY TraceId`,
  );
  return new Map(rows.map(({ TraceId, spans, distinct }) => [TraceId, { spans: Number(spans), distinct: Number(distinct) }]));
}

/**
 * Compares the stored spans with the answers. A request that was answered 200 must be stored once, with every span; each trace of another
 * request once or not at all. Each 503 must have Retry-After.
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
