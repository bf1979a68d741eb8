import { JSON_TYPE, PROTOBUF_TYPE, send } from '../test/support/clients/otlp-client.ts';
import { gatewayProtobuf, hiveGatewayBatch, type Payload } from '../test/support/generators/payloads.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { otelcol, rotel } from './peers.ts';
import { diskBuffer, memoryMode } from './subjects.ts';

/*
 * The answers of this collector and others to the same requests, and whether the spans are then stored. `node bench/answers.ts`, after a
 * build; needs Go and pip.
 */

/** Requests sent while ClickHouse is down: by the last one, each collector has noticed. */
const TRIES = 3;

await using clickhouse = await startClickHouse({ systemLogs: false });
const table: Record<string, Record<string, string>> = {};
for (const subject of [memoryMode, diskBuffer, otelcol, rotel]) {
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await using server = await subject.start(clickhouse.url);
  const post = async ({ body }: Payload, headers: Readonly<Record<string, string>>) =>
    (await send(`http://127.0.0.1:${server.port}/v1/traces`, body, { headers })).status;
  const stored = async ({ traceIds }: Payload) =>
    (await clickhouse.hasTable('otel_traces')) &&
    (await clickhouse.query(`SELECT 1 FROM otel_traces WHERE TraceId = '${traceIds[0]}' LIMIT 1`)).length === 1;

  const protobuf = gatewayProtobuf({ spans: 7, seed: 1 });
  const protobufAnswer = await post(protobuf, PROTOBUF_TYPE);
  const storedAtOnce = await stored(protobuf);
  const jsonAnswer = await post(hiveGatewayBatch({ spans: 7, seed: 2 }), JSON_TYPE);
  await clickhouse.kill();
  let awayAnswer = 0;
  for (let seed = 3; seed < 3 + TRIES; seed++) awayAnswer = await post(gatewayProtobuf({ spans: 7, seed }), PROTOBUF_TYPE);
  await clickhouse.restart();
  table[subject.name] = {
    Protobuf: `${protobufAnswer}, ${storedAtOnce ? 'in ClickHouse' : 'not yet in ClickHouse'}`,
    "Hive Gateway's JSON": String(jsonAnswer),
    'ClickHouse away': String(awayAnswer),
  };
}
console.table(table);
