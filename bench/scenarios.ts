import type { Scenario } from './end-to-end.ts';

/** What senders do: as much as they can in large and in small requests, and a steady little. */
export function scenarios(seconds: number): Scenario[] {
  return [
    { name: 'Hive Gateway JSON, 512 spans a request, saturated', encoding: 'json', spansPerRequest: 512, connections: 32, seconds },
    { name: 'Protobuf, 517 spans a request, saturated', encoding: 'protobuf', spansPerRequest: 517, connections: 32, seconds },
    { name: 'JSON, 11 spans a request, 64 connections', encoding: 'json', spansPerRequest: 11, connections: 64, seconds },
    { name: 'Protobuf, 11 spans a request, 128 connections', encoding: 'protobuf', spansPerRequest: 11, connections: 128, seconds },
    { name: 'Protobuf, 40 requests/s of 517 spans', encoding: 'protobuf', spansPerRequest: 517, connections: 16, rate: 40, seconds },
    { name: 'Protobuf, 500 requests/s of 11 spans', encoding: 'protobuf', spansPerRequest: 11, connections: 64, rate: 500, seconds },
  ];
}
