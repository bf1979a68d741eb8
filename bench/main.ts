import { parseArgs } from 'node:util';
import { measureEndToEnd, type Scenario } from './end-to-end.ts';
import { measureTranscode } from './transcode.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '8' },
    'disk-buffer': { type: 'boolean', default: false },
    only: { type: 'string', default: 'transcode,end-to-end' },
  },
});
const seconds = Number(values.seconds);
const parts = new Set(values.only.split(','));

const scenarios: readonly Scenario[] = [
  { name: 'Hive Gateway JSON, 512 spans a request, saturated', encoding: 'json', spansPerRequest: 512, connections: 32, seconds },
  { name: 'Protobuf, 517 spans a request, saturated', encoding: 'protobuf', spansPerRequest: 517, connections: 32, seconds },
  { name: 'JSON, 11 spans a request, 64 connections', encoding: 'json', spansPerRequest: 11, connections: 64, seconds },
  { name: 'Protobuf, 11 spans a request, 128 connections', encoding: 'protobuf', spansPerRequest: 11, connections: 128, seconds },
  { name: 'Protobuf, 40 requests/s of 517 spans', encoding: 'protobuf', spansPerRequest: 517, connections: 16, rate: 40, seconds },
  { name: 'Protobuf, 500 requests/s of 11 spans', encoding: 'protobuf', spansPerRequest: 11, connections: 64, rate: 500, seconds },
];

const transcode = parts.has('transcode') ? await measureTranscode() : undefined;
const endToEnd = parts.has('end-to-end') ? await measureEndToEnd(scenarios, values['disk-buffer']) : [];

if (values.json) {
  process.stdout.write(`${JSON.stringify({ node: process.version, ...transcode, endToEnd })}\n`);
} else {
  if (transcode !== undefined) {
    console.log('\nTranscoding: the whole way from a body to a compressed block, µs a span, and the ratio to the baseline in the same run\n');
    console.table({
      'Protobuf, 517 spans': row(transcode.protobufUsPerSpan, 'protobufjs decode alone', transcode.protobufjsUsPerSpan, transcode.protobufVsProtobufjs),
      'Hive Gateway JSON, 512 spans': row(transcode.jsonUsPerSpan, 'JSON.parse alone', transcode.jsonParseUsPerSpan, transcode.jsonVsJsonParse),
    });
  }
  if (endToEnd.length > 0) {
    console.log(`\nEnd to end: collector, ClickHouse and load generator on this machine; ${values['disk-buffer'] ? '200 when in the disk buffer' : 'memory mode, 200 after ClickHouse confirmed'}\n`);
    console.table(
      Object.fromEntries(
        endToEnd.map(({ name, ...result }) => [
          name,
          {
            'spans/s': Math.round(result.spansPerSecond),
            'stored/s': Math.round(result.storedSpansPerSecond),
            'collector µs/span': round(result.collectorCpuUsPerSpan),
            'ClickHouse µs/span': round(result.clickhouseCpuUsPerSpan),
            'rows/insert': Math.round(result.rowsPerInsert),
            'merged rows/row': round(result.mergedRowsPerRow),
            'ack p50 ms': round(result.ackP50Ms),
            'ack p99 ms': round(result.ackP99Ms),
            'peak MB': Math.round(result.collectorPeakMemoryMb),
            refused: result.refusedRequests,
          },
        ]),
      ),
    );
  }
}

function row(ours: number, baseline: string, theirs: number, ratio: number) {
  return { 'µs/span': round(ours), baseline, 'baseline µs/span': round(theirs), ratio: round(ratio) };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
