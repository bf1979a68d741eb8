import { parseArgs } from 'node:util';
import { measureEndToEnd } from './end-to-end.ts';
import { otelcol, rotel } from './peers.ts';
import { printEndToEnd, printRatios, ratios, summarize } from './report.ts';
import { scenarios } from './scenarios.ts';
import { diskBuffer, memoryMode, plainNest, receiveOnly } from './subjects.ts';
import { measureTranscode } from './transcode.ts';

/*
 * `npm run bench -- --only end-to-end --runs 3 --scenario 'Protobuf, 11'`, or with `--baselines`, which measures the
 * collector in both modes beside what one would write otherwise, and beside a server that only receives. `--peers`
 * measures other collectors beside it, which take Protobuf of ours: `--only end-to-end --peers --scenario Protobuf`.
 */

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '8' },
    runs: { type: 'string', default: '1' },
    'disk-buffer': { type: 'boolean', default: false },
    baselines: { type: 'boolean', default: false },
    peers: { type: 'boolean', default: false },
    scenario: { type: 'string', default: '' },
    only: { type: 'string', default: 'transcode,end-to-end' },
  },
});
const parts = new Set(values.only.split(','));
const withBaselines = values.baselines || parts.has('baselines');
const ours = withBaselines || values.peers ? [memoryMode, diskBuffer] : [values['disk-buffer'] ? diskBuffer : memoryMode];
const others = [...(withBaselines ? [plainNest, receiveOnly] : []), ...(values.peers ? [otelcol, rotel] : [])];
const wanted = scenarios(Number(values.seconds)).filter(({ name }) => name.includes(values.scenario));

const transcode = parts.has('transcode') ? await measureTranscode() : undefined;
const endToEnd = parts.has('end-to-end') || withBaselines ? await measureEndToEnd([...ours, ...others], wanted, Number(values.runs)) : [];
const compared = ratios(
  endToEnd,
  ours.map(({ name }) => name),
  others.map(({ name }) => name),
);

if (values.json) {
  process.stdout.write(`${JSON.stringify({ node: process.version, ...transcode, endToEnd: endToEnd.map(summarize), ratios: compared })}\n`);
} else {
  if (transcode !== undefined) {
    console.log('\nTranscoding: the whole way from a body to a compressed block, µs a span, and the ratio to the baseline in the same run\n');
    console.table({
      'Protobuf, 517 spans': row(transcode.protobufUsPerSpan, 'protobufjs decode alone', transcode.protobufjsUsPerSpan, transcode.protobufVsProtobufjs),
      'Hive Gateway JSON, 512 spans': row(transcode.jsonUsPerSpan, 'JSON.parse alone', transcode.jsonParseUsPerSpan, transcode.jsonVsJsonParse),
    });
  }
  if (endToEnd.length > 0) console.log(`\nEnd to end: all on this machine. Median of ${values.runs} runs (least–most)`);
  printEndToEnd(endToEnd);
  if (compared.length > 0) printRatios(compared);
}

function row(us: number, baseline: string, theirs: number, ratio: number) {
  return { 'µs/span': round(us), baseline, 'baseline µs/span': round(theirs), ratio: round(ratio) };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
