import { zstdDecompressSync } from 'node:zlib';
import type { Encoding } from '../src/otlp/encoding.ts';
import { compress } from '../src/runtime/zstd.ts';
import { BlockEncoder } from '../src/transcode/block-encoder.ts';
import { commandLine } from '../test/support/commands/command-line.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../test/support/generators/payloads.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { runLoad } from './collector.ts';
import { cpuSeconds, ownCpuSeconds } from './process-usage.ts';
import { median } from './statistics.ts';
import { receiveOnly } from './subjects.ts';

/*
 * How much the collector could still improve: the minimum cost of moving a span's bytes, compared with the cost of transcoding them, in
 * CPU µs per span. All measurements except receiving alternate, so that noise affects all of them.
 */

commandLine(
  `Measures the minimum cost of moving a span's bytes (copying, receiving, compressing), and the cost of transcoding.

npm run bench:limits
`,
  {},
);

const SPANS = 512;
const REQUESTS = 4;
const BLOCK_SPANS = SPANS * REQUESTS;
const ROUNDS = 60;
const WARM_UP_ROUNDS = 150;
const RECEIVE_SECONDS = 5;
const TARGET_ID = 'f2a1c1d6-5b55-4f2b-9d2c-0a6f6f0f7f11';

interface Limits {
  /** Bytes of the request. */
  readonly bytesPerSpan: number;
  readonly nativeBytesPerSpan: number;
  readonly frameBytesPerSpan: number;
  /** Copying the request's bytes in memory. */
  readonly copyUs: number;
  /** Reading the request from a loopback socket by Node's HTTP server, and dropping it. */
  readonly receiveUs: number;
  /** Compressing the block's columns to a frame. */
  readonly compressUs: number;
  /** The collector's transcoding, including compression. */
  readonly transcodeAndSealUs: number;
}

/** The expected time of the rounds of one encoding. */
const ROUNDS_SECONDS = 15;
using progress = startProgress('Measures what moving the bytes of requests costs, Protobuf and JSON.', {
  steps: 4,
  seconds: 2 * (ROUNDS_SECONDS + RECEIVE_SECONDS + 3),
});

async function measure(encoding: Encoding): Promise<Limits> {
  progress.step(`${encoding}: copying, compressing, transcoding`, ROUNDS_SECONDS);
  const make = encoding === 'json' ? hiveGatewayBatch : gatewayProtobuf;
  const bodies = Array.from({ length: REQUESTS }, (_, seed) => make({ spans: SPANS, seed: seed + 1 }).body);
  const targets = bodies.map((body) => Buffer.alloc(body.length));
  const encoder = new BlockEncoder('hive');
  const block = () => {
    for (const body of bodies) encoder.add([body], encoding, TARGET_ID);
    return encoder.seal().frame;
  };
  const frame = block();
  const native = zstdDecompressSync(frame);

  const us = { copy: [] as number[], compress: [] as number[], ours: [] as number[] };
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    const copy = usPerSpan(() => bodies.forEach((body, index) => body.copy(targets[index])), 20);
    const compression = usPerSpan(() => compress(native), 2);
    const ours = usPerSpan(block, 2);
    progress.tick(undefined, round / (WARM_UP_ROUNDS + ROUNDS));
    if (round < WARM_UP_ROUNDS) continue;
    us.copy.push(copy);
    us.compress.push(compression);
    us.ours.push(ours);
  }
  return {
    bytesPerSpan: bodies.reduce((sum, { length }) => sum + length, 0) / BLOCK_SPANS,
    nativeBytesPerSpan: native.length / BLOCK_SPANS,
    frameBytesPerSpan: frame.length / BLOCK_SPANS,
    copyUs: median(us.copy),
    receiveUs: await receiveUsPerSpan(encoding),
    compressUs: median(us.compress),
    transcodeAndSealUs: median(us.ours),
  };
}

/** CPU µs per span of `run`, which handles one block, over `times` calls. */
function usPerSpan(run: () => unknown, times: number): number {
  const startedAt = ownCpuSeconds();
  for (let time = 0; time < times; time++) run();
  return ((ownCpuSeconds() - startedAt) * 1e6) / (BLOCK_SPANS * times);
}

async function receiveUsPerSpan(encoding: Encoding): Promise<number> {
  progress.step(`${encoding}: receiving`, RECEIVE_SECONDS + 3);
  await using server = await receiveOnly.start('');
  const load = { port: server.port, encoding, spansPerRequest: SPANS, connections: 32 } as const;
  await runLoad({ ...load, seconds: 1 });
  const before = cpuSeconds(server.pid);
  const { acknowledgedSpans } = await runLoad({ ...load, seconds: RECEIVE_SECONDS });
  return ((cpuSeconds(server.pid) - before) * 1e6) / acknowledgedSpans;
}

const table: Record<string, Record<string, number>> = {};
for (const encoding of ['protobuf', 'json'] as const) {
  const limits = await measure(encoding);
  table[encoding] = Object.fromEntries(Object.entries(limits).map(([name, value]) => [name, Math.round(value * 1000) / 1000]));
}
progress.clear();
console.table(table);
