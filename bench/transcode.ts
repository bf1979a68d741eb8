import { setImmediate } from 'node:timers/promises';
import type { Encoding } from '../src/otlp/encoding.ts';
import { ExportTraceServiceRequest } from '../test/support/oracle/otlp-messages.ts';
import { BlockEncoder } from '../src/transcode/block-encoder.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../test/support/generators/payloads.ts';
import { Random } from '../test/support/generators/random.ts';
import { median, quantile } from './statistics.ts';

/*
 * The cost of a span from the bytes of a request to a compressed block, compared with only decoding the same bytes into objects:
 * protobufjs for Protobuf, JSON.parse (of an existing string) for JSON. Both alternate within milliseconds, so that noise affects both; the
 * ratio is the median of the ratios of all pairs.
 *
 * Four requests share a block, about as in a saturated collector; one request per block is the case of low load. The transcoder is faster
 * if spans repeat attributes (known-attributes.ts), as those of the payloads and of real gateways do; the last row of the table shows the
 * cost if no text is repeated.
 */

const SPANS = { protobuf: 517, json: 512 } as const;
const REQUESTS_PER_BLOCK = 4;
const ROUNDS = 60;
const WARM_UP_ROUNDS = 20;
/** Some milliseconds of work. */
const REQUESTS_PER_TURN = 12;

/** The expected time of measureTranscode. */
export const TRANSCODE_SECONDS = 10;

export interface TranscodeFigures {
  /** Time until the compressed block ÷ time of protobufjs for decoding the same bytes. */
  readonly protobufVsProtobufjs: number;
  /** Time until the compressed block ÷ time of JSON.parse for the same text. */
  readonly jsonVsJsonParse: number;
  readonly protobufUsPerSpan: number;
  readonly jsonUsPerSpan: number;
  readonly protobufjsUsPerSpan: number;
  readonly jsonParseUsPerSpan: number;
}

interface Comparison {
  readonly ratio: number;
  readonly oursUs: number;
  readonly theirsUs: number;
  readonly oursUsP25: number;
  readonly theirsUsP25: number;
  /** Bytes of the compressed block. */
  readonly bytesPerSpan: number;
}

/** Measures transcoding and the libraries in turns: medians over ROUNDS rounds. */
export async function measureTranscode(requestsPerBlock = REQUESTS_PER_BLOCK): Promise<TranscodeFigures> {
  const protobuf = await compareProtobuf(requestsPerBlock);
  const json = await compareJson(requestsPerBlock);
  return {
    protobufVsProtobufjs: protobuf.ratio,
    jsonVsJsonParse: json.ratio,
    protobufUsPerSpan: protobuf.oursUs,
    jsonUsPerSpan: json.oursUs,
    protobufjsUsPerSpan: protobuf.theirsUs,
    jsonParseUsPerSpan: json.theirsUs,
  };
}

function compareProtobuf(requestsPerBlock: number): Promise<Comparison> {
  const bodies = Array.from({ length: requestsPerBlock }, (_, seed) => gatewayProtobuf({ spans: SPANS.protobuf, seed }).body);
  return compare(bodies, 'protobuf', (request) => ExportTraceServiceRequest.decode(bodies[request]));
}

function compareJson(requestsPerBlock: number, withoutRepeats = false): Promise<Comparison> {
  const bodies = Array.from({ length: requestsPerBlock }, (_, seed) => {
    const { body } = hiveGatewayBatch({ spans: SPANS.json, seed });
    return withoutRepeats ? withNewTexts(body, seed) : body;
  });
  const texts = bodies.map((body) => body.toString());
  return compare(bodies, 'json', (request): unknown => JSON.parse(texts[request]));
}

async function compare(bodies: readonly Buffer[], encoding: Encoding, theirs: (request: number) => unknown): Promise<Comparison> {
  const encoder = new BlockEncoder('hive');
  const spans = SPANS[encoding] * bodies.length;
  let bytes = 0;
  const ourBlock = () => {
    for (const body of bodies) encoder.add([body], encoding, 'f2a1c1d6-5b55-4f2b-9d2c-0a6f6f0f7f11');
    bytes = encoder.seal().frame.length;
  };
  const theirBlock = () => {
    for (let request = 0; request < bodies.length; request++) theirs(request);
  };

  const ours: number[] = [];
  const others: number[] = [];
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    const blocks = REQUESTS_PER_TURN / bodies.length;
    const oursUs = usPerSpan(ourBlock, blocks, spans);
    const theirsUs = usPerSpan(theirBlock, blocks, spans);
    if (round >= WARM_UP_ROUNDS) {
      ours.push(oursUs);
      others.push(theirsUs);
    }
    await setImmediate();
  }
  return {
    ratio: median(ours.map((us, round) => us / others[round])),
    oursUs: median(ours),
    theirsUs: median(others),
    oursUsP25: quantile(ours, 0.25),
    theirsUsP25: quantile(others, 0.25),
    bytesPerSpan: bytes / spans,
  };
}

/** Time in µs per span; `spans` is their number in one block. */
function usPerSpan(block: () => void, blocks: number, spans: number): number {
  const startedAt = performance.now();
  for (let turn = 0; turn < blocks; turn++) block();
  return ((performance.now() - startedAt) * 1000) / (spans * blocks);
}

/** The same body with different letters and digits in the text of every attribute, without repetitions. */
function withNewTexts(body: Buffer, seed: number): Buffer {
  const random = new Random(seed);
  return Buffer.from(
    body.toString().replaceAll(/(?<="stringValue":")[^"\\]+/g, (text) => random.hex(Math.ceil(text.length / 8)).slice(0, text.length)),
  );
}

async function printTable(): Promise<void> {
  const comparisons: [name: string, () => Promise<Comparison>][] = [
    ['Protobuf, 4 a block', () => compareProtobuf(4)],
    ['JSON, 4 a block', () => compareJson(4)],
    ['Protobuf, 1 a block', () => compareProtobuf(1)],
    ['JSON, 1 a block', () => compareJson(1)],
    ['JSON, 4 a block, texts ever new', () => compareJson(4, true)],
  ];
  const rows: Record<string, Record<string, string>> = {};
  for (const [name, run] of comparisons) {
    const { ratio, oursUs, oursUsP25, theirsUs, theirsUsP25, bytesPerSpan } = await run();
    rows[name] = {
      ratio: ratio.toFixed(3),
      'ours µs/span (p25)': `${oursUs.toFixed(2)} (${oursUsP25.toFixed(2)})`,
      'library µs/span (p25)': `${theirsUs.toFixed(2)} (${theirsUsP25.toFixed(2)})`,
      'bytes/span': bytesPerSpan.toFixed(1),
    };
  }
  console.table(rows);
}

if (import.meta.main) await printTable();
