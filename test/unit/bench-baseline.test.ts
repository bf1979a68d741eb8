import { expect, test } from 'vitest';
import { type DecodedRequest, rowsOf } from '../../bench/baselines/rows.ts';
import { ExportTraceServiceRequest } from '../support/oracle/otlp-messages.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../support/generators/payloads.ts';
import { expectedRows, rowsOf as expectedRowsOf } from '../support/oracle/expected-rows.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';

// A comparison of speed is worth something only between programs that store the same.

test('the baseline stores of Protobuf what the collector does', () => {
  const { body } = gatewayProtobuf({ spans: 50, seed: 1 });
  expect(rowsOf(ExportTraceServiceRequest.decode(body) as DecodedRequest, 'target')).toEqual(expectedRows(body, 'target', 'hive'));
});

test('the baseline stores of JSON what the collector does', () => {
  const text = hiveGatewayBatch({ spans: 50, seed: 1 }).body.toString();
  const request: DecodedRequest = JSON.parse(text);
  expect(rowsOf(request, 'target')).toEqual(expectedRowsOf(parsedJson(text), 'target', 'hive'));
});
