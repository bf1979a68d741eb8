import { expect } from 'vitest';
import type { Hive } from '../../integration/auth-hive.ts';
import { type Answer, JSON_TYPE, PROTOBUF_TYPE, statusOf, successOf } from '../clients/otlp-client.ts';
import { gatewayProtobuf, hiveGatewayBatch, type Payload } from '../generators/payloads.ts';
import { storedRows } from '../oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from './clickhouse.ts';
import { startCollector, type Collector, type Environment } from './collector.ts';
import { startHiveWithVerdicts } from './hive-verdicts.ts';

/* The built collector with an auth endpoint and a real ClickHouse, and what every answer must have. */

export const ENCODINGS = [
  { name: 'Protobuf', type: PROTOBUF_TYPE, make: gatewayProtobuf },
  { name: 'JSON', type: JSON_TYPE, make: hiveGatewayBatch },
] as const;

/** A collector, and the servers that it uses. */
export interface World extends AsyncDisposable {
  readonly clickhouse: TestClickHouse;
  readonly hive: Hive;
  readonly collector: Collector;
  /** The number of a payload's spans in ClickHouse. */
  spansStored(payload: Payload): Promise<number>;
  /** Requests in progress, and memory that requests use. Both must be 0 when all requests have ended. */
  inHand(): Promise<{ requests: number | undefined; bytes: number | undefined }>;
}

/** Starts all of it. @param env variables of the collector */
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

/** Expects 200 and an ExportTraceServiceResponse without rejected spans. */
export function expectAccepted(answer: Answer, type: Readonly<Record<string, string>>): void {
  expect(answer.status).toBe(200);
  expect(answer.headers).toMatchObject(type);
  expect(successOf(answer)).toEqual({});
}

/** Expects a google.rpc.Status with the text `says`, and Retry-After for 429 and 503 only. */
export function expectRefused(answer: Answer, type: Readonly<Record<string, string>>, status: number, says: string): void {
  expect(answer.status).toBe(status);
  expect(answer.headers).toMatchObject(type);
  expect(statusOf(answer)).toEqual({ code: RPC_CODES[status], message: expect.stringContaining(says) });
  if (status === 429 || status === 503) expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
  else expect(answer.headers).not.toHaveProperty('retry-after');
}
