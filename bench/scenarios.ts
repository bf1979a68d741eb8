import type { Scenario } from './end-to-end.ts';

/** The scenarios of `npm run bench`, each with `seconds` of load: low steady load, full load, and one sender that waits for each answer. */
export function scenarios(seconds: number): Scenario[] {
  const small = { encoding: 'protobuf', spansPerRequest: 11, connections: 256, rate: 500 } as const;
  const exporter = { encoding: 'protobuf', spansPerRequest: 512, connections: 1 } as const;
  return [
    { name: '500 requests/s of 11 spans', ...small, seconds },
    { name: '40 requests/s of 517 spans', encoding: 'protobuf', spansPerRequest: 517, connections: 64, rate: 40, seconds },
    { name: 'saturated, Protobuf, 11 spans, 128 connections', encoding: 'protobuf', spansPerRequest: 11, connections: 128, seconds },
    { name: 'saturated, Protobuf, 517 spans, 16 connections', encoding: 'protobuf', spansPerRequest: 517, connections: 16, seconds },
    { name: 'saturated, JSON, 11 spans, 64 connections', encoding: 'json', spansPerRequest: 11, connections: 64, seconds },
    { name: 'saturated, Hive Gateway JSON, 512 spans, 32 connections', encoding: 'json', spansPerRequest: 512, connections: 32, seconds },
    { name: 'one exporter, 512 spans, back to back', ...exporter, seconds },
    { name: 'one exporter, 512 spans, back to back, and 500 requests/s of 11', ...exporter, others: small, seconds },
    { name: '1 request/s of 11 spans', encoding: 'protobuf', spansPerRequest: 11, connections: 1, rate: 1, isIdle: true, seconds },
  ];
}
