import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ring } from '../src/disk-buffer/ring.ts';
import { ExportTraceServiceRequest } from '../test/support/oracle/otlp-messages.ts';
import { BlockEncoder } from '../src/transcode/block-encoder.ts';
import { build, BUILD_SECONDS } from '../test/support/commands/build.ts';
import { commandLine, misused, positive } from '../test/support/commands/command-line.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../test/support/generators/payloads.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { Random } from '../test/support/generators/random.ts';
import { chart, type Line, type Panel } from './chart.ts';
import { completed, expectedSeconds, measureEndToEnd, type Scenario } from './end-to-end.ts';
import { ownCpuSeconds } from './process-usage.ts';
import { median } from './statistics.ts';
import { diskBuffer } from './subjects.ts';

/*
 * Whether costs stay proportional: µs per span with larger requests, more targets and more attribute keys, and µs per record as the ring
 * fills. A flat or falling line is good.
 */

const SPANS_A_REQUEST = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000];
const SPANS_A_REQUEST_END_TO_END = [1, 10, 100, 1000, 10_000];
const TARGETS = [1, 10, 100, 1000];
const KEYS = [1, 5, 20, 50, 100, 200, 500];
/** As in a block of a collector at full load. */
const SPANS_A_BLOCK = 2048;
const ROUNDS = 30;
const WARM_UP_ROUNDS = 10;
const TARGET_ID = 'f2a1c1d6-5b55-4f2b-9d2c-0a6f6f0f7f11';
const RESULTS = fileURLToPath(new URL('results/', import.meta.url));

const usage = `Measures whether CPU per span stays constant as requests, targets and attribute keys grow, and as the disk buffer fills.
Prints tables, and writes bench/results/growth.json and growth.svg.

npm run bench:growth -- [options]

  --seconds N   seconds of load for each size, with the whole collector (default 4)
  --only LIST   curves: request, collector, targets, keys, ring (default all)
`;
const values = commandLine(usage, {
  seconds: { type: 'string', default: '4' },
  only: { type: 'string', default: 'request,collector,targets,keys,ring' },
});
const seconds = positive('--seconds', values.seconds);

const collectorScenarios = SPANS_A_REQUEST_END_TO_END.map((spans): Scenario => ({
  name: String(spans),
  encoding: 'protobuf',
  spansPerRequest: spans,
  connections: spans >= 1000 ? 8 : 64,
  seconds,
}));
const targetScenarios = TARGETS.map((targets): Scenario => ({
  name: String(targets),
  encoding: 'protobuf',
  spansPerRequest: 11,
  connections: 64,
  seconds,
  targets,
}));

/** The expected time of each measurement in this process. */
const CURVE_SECONDS = 20;
const expected: Record<string, { steps: number; seconds: number }> = {
  request: { steps: 1, seconds: CURVE_SECONDS },
  collector: { steps: collectorScenarios.length, seconds: expectedSeconds([diskBuffer], collectorScenarios, 1) },
  targets: { steps: targetScenarios.length, seconds: expectedSeconds([diskBuffer], targetScenarios, 1) },
  keys: { steps: 1, seconds: CURVE_SECONDS },
  ring: { steps: 1, seconds: 2 },
};

const curves: Record<string, () => Panel | Promise<Panel>> = {
  request: () => ({
    title: 'Transcoding and sealing, by spans a request',
    x: 'spans a request',
    xScale: 'logarithmic',
    y: 'CPU µs a span',
    lines: [
      {
        name: 'Protobuf',
        points: costs(SPANS_A_REQUEST, 'protobuf', (spans) => requests(spans, (seed) => gatewayProtobuf({ spans, seed }).body)),
      },
      {
        name: 'JSON',
        points: costs(SPANS_A_REQUEST, 'json', (spans) => requests(spans, (seed) => hiveGatewayBatch({ spans, seed }).body)),
      },
    ],
  }),
  collector: async () => ({
    title: 'The whole collector with its disk buffer, by spans a request',
    x: 'spans a request',
    xScale: 'logarithmic',
    y: 'CPU µs a span',
    lines: await collectorCpu(collectorScenarios),
  }),
  targets: async () => ({
    title: 'The whole collector, 11 spans a request, by targets',
    x: 'targets',
    xScale: 'logarithmic',
    y: 'CPU µs a span',
    lines: await collectorCpu(targetScenarios),
  }),
  keys: () => ({
    title: 'Transcoding and sealing, by distinct attribute keys (6 a span)',
    x: 'distinct keys',
    xScale: 'logarithmic',
    y: 'CPU µs a span',
    lines: [{ name: 'Protobuf', points: costs(KEYS, 'protobuf', (keys) => requests(512, (seed) => requestWithKeys(512, keys, seed))) }],
  }),
  ring: () => ({
    title: 'Appending 64 KB to a ring of 256 MB',
    x: '% full',
    xScale: 'linear',
    y: 'µs a record',
    lines: [{ name: 'append', points: ringAppends(256 * 1024 ** 2, 65_536) }],
  }),
};

/** The bodies of a block's requests, and the number of spans in them. */
function requests(spans: number, body: (seed: number) => Buffer): { bodies: Buffer[]; spans: number } {
  const count = Math.max(1, Math.round(SPANS_A_BLOCK / spans));
  return { bodies: Array.from({ length: count }, (_, seed) => body(seed + 1)), spans: spans * count };
}

/** Median CPU µs per span of blocks, of all threads. The sizes alternate, so that noise affects all of them. */
function costs(
  sizes: readonly number[],
  encoding: 'protobuf' | 'json',
  blockOf: (size: number) => { bodies: Buffer[]; spans: number },
): Line['points'] {
  const encoder = new BlockEncoder('hive');
  const cases = sizes.map((size) => ({ size, ...blockOf(size), us: [] as number[] }));
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    for (const { bodies, spans, us } of cases) {
      const startedAt = ownCpuSeconds();
      for (const body of bodies) encoder.add([body], encoding, TARGET_ID);
      encoder.seal();
      if (round >= WARM_UP_ROUNDS) us.push(((ownCpuSeconds() - startedAt) * 1e6) / spans);
      progress.tick(undefined, round / (WARM_UP_ROUNDS + ROUNDS));
    }
  }
  return cases.map(({ size, us }) => [size, median(us)]);
}

async function collectorCpu(sizes: readonly Scenario[]): Promise<Line[]> {
  const measured = await measureEndToEnd([diskBuffer], sizes, 1, progress);
  return [{ name: 'collector', points: measured.map((one) => [Number(one.scenario), completed(one)[0].collectorCpuUsPerSpan]) }];
}

/** Spans with 6 attributes each, whose keys are chosen from this number of keys. */
function requestWithKeys(spans: number, keys: number, seed: number): Buffer {
  const random = new Random(seed);
  const startNs = BigInt(Date.now()) * 1_000_000n;
  const span = () => ({
    traceId: random.bytes(16),
    spanId: random.bytes(8),
    name: 'graphql.execute',
    startTimeUnixNano: String(startNs),
    endTimeUnixNano: String(startNs + 5_000_000n),
    attributes: Array.from({ length: 6 }, () => ({
      key: `some.attribute.${random.below(keys)}`,
      value: { stringValue: `value ${random.below(50)}` },
    })),
  });
  const request = { resourceSpans: [{ resource: { attributes: [] }, scopeSpans: [{ spans: Array.from({ length: spans }, span) }] }] };
  return Buffer.from(ExportTraceServiceRequest.encode(ExportTraceServiceRequest.fromObject(request)).finish());
}

/** Median µs of an append for each tenth of the ring. Every page is written for the first time. */
function ringAppends(ringBytes: number, recordBytes: number): Line['points'] {
  const dir = mkdtempSync(join(tmpdir(), 'bench-growth-'));
  const ring = Ring.open(join(dir, 'ring'), ringBytes);
  const frame = new Random(1).bytes(recordBytes);
  const us: number[] = [];
  for (;;) {
    const startedAt = performance.now();
    if (ring.append(frame, 100, 0) === undefined) break;
    us.push((performance.now() - startedAt) * 1000);
  }
  ring.close();
  rmSync(dir, { recursive: true });
  return Array.from({ length: 10 }, (_, tenth) => [
    (tenth + 1) * 10,
    median(us.slice((us.length * tenth) / 10, (us.length * (tenth + 1)) / 10)),
  ]);
}

const wanted = values.only.split(',');
for (const name of wanted) {
  if (curves[name] === undefined) misused(`Unknown curve: ${name}. Curves: ${Object.keys(curves).join(', ')}.`);
}
const total = (of: 'steps' | 'seconds') => wanted.reduce((sum, name) => sum + expected[name][of], 0);
using progress = startProgress(`Builds the collector, then measures ${wanted.length} curves.`, {
  steps: 1 + total('steps'),
  seconds: BUILD_SECONDS + total('seconds'),
});
await build(progress);
const results: Record<string, Panel> = {};
for (const name of wanted) {
  if (expected[name].steps === 1) progress.step(name, expected[name].seconds);
  results[name] = await curves[name]();
}
progress.clear();
for (const curve of Object.values(results)) {
  console.log(`\n${curve.title}: ${curve.y}`);
  console.table(
    Object.fromEntries(
      curve.lines.map((line) => [line.name, Object.fromEntries(line.points.map(([x, y]) => [`${x} `, Math.round(y * 100) / 100]))]),
    ),
  );
}
mkdirSync(RESULTS, { recursive: true });
writeFileSync(join(RESULTS, 'growth.json'), `${JSON.stringify(results, undefined, 2)}\n`);
writeFileSync(join(RESULTS, 'growth.svg'), chart(Object.values(results)));
console.log(`\n${join(RESULTS, 'growth.svg')}`);
