import { expect } from 'vitest';
import type { Hive } from '../../integration/auth-hive.ts';
import { type Answer, JSON_TYPE, PROTOBUF_TYPE, statusOf, successOf } from '../clients/otlp-client.ts';
import { gatewayProtobuf, hiveGatewayBatch, type Payload } from '../generators/payloads.ts';
import { storedRows } from '../oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from './clickhouse.ts';
import { startCollector, type Collector, type Environment } from './collector.ts';
import { startHiveWithVerdicts } from './hive-verdicts.ts';

/* The built program between an auth endpoint over real HTTP and a real ClickHouse, and what every answer must be like. */

export const ENCODINGS = [
  { name: 'Protobuf', type: PROTOBUF_TYPE, make: gatewayProtobuf },
  { name: 'JSON', type: JSON_TYPE, make: hiveGatewayBatch },
] as const;

export interface World extends AsyncDisposable {
  readonly clickhouse: TestClickHouse;
  readonly hive: Hive;
  readonly collector: Collector;
  /** How many spans of a payload are in ClickHouse. */
  spansStored(payload: Payload): Promise<number>;
  /** What requests that are over must leave behind: nothing. */
  inHand(): Promise<{ requests: number | undefined; bytes: number | undefined }>;
}

export async function startWorld(env: Environment = {}): Promise<World> {
  const [clickhouse, hive] = await Promise.all([startClickHouse({ systemLogs: false }), startHiveWithVerdicts()]);
  const collector = await startCollector({ clickhouse, env: { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: hive.url, ...env } });
  return {
    clickhouse,
    hive,
    collector,
    spansStored: async ({ traceIds }) => (await storedRows(clickhouse, traceIds)).length,
    async inHand() {
      const metrics = await collector.metrics();
      return { requests: metrics.get('hive_collector_requests_in_hand'), bytes: metrics.get('hive_collector_memory_used_bytes') };
    },
    async [Symbol.asyncDispose]() {
      await collector[Symbol.asyncDispose]();
      await Promise.all([hive[Symbol.asyncDispose](), clickhouse[Symbol.asyncDispose]()]);
    },
  };
}

/** google.rpc.Code of each HTTP status. */
const RPC_CODES: Readonly<Record<number, number>> = {
  400: 3,
  401: 16,
  403: 7,
  404: 5,
  405: 12,
  408: 4,
  413: 8,
  415: 3,
  429: 8,
  431: 8,
  500: 13,
  503: 14,
};

/** An ExportTraceServiceResponse that takes everything. */
export function expectTaken(answer: Answer, type: Readonly<Record<string, string>>): void {
  expect(answer.status).toBe(200);
  expect(answer.headers).toMatchObject(type);
  expect(successOf(answer)).toEqual({});
}

/** A google.rpc.Status that says why, and Retry-After if and only if the same request may be taken later. */
export function expectRefused(answer: Answer, type: Readonly<Record<string, string>>, status: number, says: string): void {
  expect(answer.status).toBe(status);
  expect(answer.headers).toMatchObject(type);
  expect(statusOf(answer)).toEqual({ code: RPC_CODES[status], message: expect.stringContaining(says) });
  if (status === 429 || status === 503) expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
  else expect(answer.headers).not.toHaveProperty('retry-after');
}
