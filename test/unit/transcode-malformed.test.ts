import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { MalformedRequest } from '../../src/transcode/bytes/malformed-request.ts';
import type { Transcoded } from '../../src/transcode/transcoder.ts';
import { mutateText } from '../support/generators/mutations.ts';
import { randomRequest, type RandomRequest } from '../support/generators/random-requests.ts';
import { Random } from '../support/generators/random.ts';
import { decodeRequest } from '../support/oracle/otlp-request.ts';

type Encoding = 'protobuf' | 'json';

const DIALECTS = ['hive', 'otelcol'] as const;

describe.each(DIALECTS)('malformed requests between good ones, in the dialect %s,', (dialect) => {
  test('are every truncation of a body', () => {
    for (const seed of [1, 2, 3]) {
      const { protobuf, json, canonical } = usualRequest(seed);
      const twins = new Twins(dialect, seed);
      for (let length = 0; length < protobuf.length; length++) twins.add(protobuf.subarray(0, length), 'protobuf');
      for (let length = 0; length < canonical.length; length++) twins.add(canonical.subarray(0, length), 'protobuf');
      for (let length = 0; length < json.lastIndexOf('}'); length++) {
        expect(twins.add(json.subarray(0, length), 'json'), `seed ${seed}, ${length} bytes`).toBeUndefined();
      }
      twins.expectEqual();
    }
  });

  test('are Protobuf with bytes changed, put in and taken out', () => {
    for (let seed = 10; seed < 40; seed++) {
      const random = new Random(seed);
      const { protobuf, canonical } = usualRequest(seed);
      const twins = new Twins(dialect, seed);
      for (let round = 0; round < 200; round++) twins.add(mutated(random.pick([protobuf, canonical]), random), 'protobuf');
      twins.expectEqual();
    }
  });

  test('are garbage', () => {
    const random = new Random(50);
    const twins = new Twins(dialect, 50);
    for (let round = 0; round < 5000; round++) {
      const bytes = random.bytes(random.below(60));
      twins.add(bytes, 'protobuf');
      twins.add(Buffer.concat([Buffer.of(0x0a, bytes.length), bytes]), 'protobuf');
      twins.add(bytes, 'json');
    }
    twins.expectEqual();
  });

  test('are JSON texts that JSON.parse refuses', () => {
    let refused = 0;
    let accepted = 0;
    for (let seed = 60; seed < 90; seed++) {
      const random = new Random(seed);
      const { json } = usualRequest(seed);
      const twins = new Twins(dialect, seed);
      for (let round = 0; round < 250; round++) {
        const body = mutatedJson(json, random);
        const parses = jsonParses(body);
        const transcoded = twins.add(body, 'json');
        if (!parses) expect(transcoded, `seed ${seed}, round ${round}: ${body.toString()}`).toBeUndefined();
        if (transcoded === undefined) refused++;
        else accepted++;
      }
      twins.expectEqual();
    }
    // Neither side of the comparison is idle.
    expect(refused).toBeGreaterThan(1000);
    expect(accepted).toBeGreaterThan(1000);
  });
});

test('rows of Protobuf that protobufjs reads as well are as many as it finds spans', () => {
  let compared = 0;
  for (let seed = 100; seed < 130; seed++) {
    const random = new Random(seed);
    const { canonical } = usualRequest(seed);
    for (let round = 0; round < 100; round++) {
      const body = mutated(canonical, random);
      const spans = spansIn(body);
      const encoder = new BlockEncoder('hive');
      const transcoded = outcome(encoder, body, 'protobuf');
      if (spans === undefined || transcoded === undefined) continue;
      compared++;
      expect(transcoded.accepted + transcoded.rejected, `seed ${seed}, round ${round}`).toBe(spans);
    }
  }
  expect(compared).toBeGreaterThan(300);
});

describe('deep nesting', () => {
  test.each([65, 1000, 100_000])('of %i arrays is refused, whether known or skipped', (depth) => {
    const value = '{"arrayValue":{"values":['.repeat(depth) + ']}}'.repeat(depth);
    const brackets = '['.repeat(depth * 5) + ']'.repeat(depth * 5);
    for (const json of [withAttribute(value), `{"x":${brackets}}`, `{"resourceSpans":[],"resourceSpans":${brackets}}`]) {
      expect(() => new BlockEncoder('hive').add([Buffer.from(json)], 'json', 't')).toThrow(MalformedRequest);
    }
  });

  test('of 60 arrays is stored, and refused with a bad span only', () => {
    const value = '{"arrayValue":{"values":['.repeat(60) + ']}}'.repeat(60);
    const json = withAttribute(value).replace('{"attributes"', '{"name":"good"},{"spanId":"bad","attributes"');
    expect(new BlockEncoder('hive').add([Buffer.from(withAttribute(value))], 'json', 't')).toEqual({ accepted: 1, rejected: 0 });
    expect(new BlockEncoder('hive').add([Buffer.from(json)], 'json', 't')).toMatchObject({ accepted: 1, rejected: 1 });
  });

  test('of a million Protobuf groups is refused', () => {
    expect(() => new BlockEncoder('hive').add([Buffer.alloc(1_000_000, 0x1b)], 'protobuf', 't')).toThrow(MalformedRequest);
  });
});

describe('small bodies that would become large', () => {
  test('are refused when they hold millions of empty spans', () => {
    const spans = Buffer.alloc(2 * 1_100_000, Buffer.of(0x12, 0x00));
    const encoder = new BlockEncoder('hive');
    expect(() => encoder.add([message(0x0a, message(0x12, spans))], 'protobuf', 't')).toThrow(MalformedRequest);
    expect(encoder.rows).toBe(0);
  });

  test('are refused when many spans share many resource attributes', () => {
    const attributes = Buffer.concat(
      Array.from({ length: 20_000 }, (_, index) =>
        message(0x0a, Buffer.concat([message(0x0a, Buffer.from(`key ${index}`)), message(0x12, message(0x0a, Buffer.from('v')))])),
      ),
    );
    const spans = Buffer.alloc(2 * 2000, Buffer.of(0x12, 0x00));
    const body = message(0x0a, Buffer.concat([message(0x0a, attributes), message(0x12, spans)]));
    expect(() => new BlockEncoder('hive').add([body], 'protobuf', 't')).toThrow(MalformedRequest);
  });

  test('take time in proportion to their size when they repeat a message or nest objects', () => {
    const merged = message(0x4a, message(0x12, Buffer.alloc(900_000, Buffer.of(0x2a, 0x02, 0x0a, 0x00))));
    const objects = `[${'{"kvlistValue":{"values":[{"key":"b","value":{}},{"key":"a","value":{}}]}},'.repeat(20_000)}{}]`;
    const startedAt = performance.now();
    new BlockEncoder('otelcol').add([message(0x0a, message(0x12, message(0x12, merged)))], 'protobuf', 't');
    new BlockEncoder('otelcol').add([Buffer.from(withAttribute(`{"arrayValue":{"values":${objects}}}`))], 'json', 't');
    expect(performance.now() - startedAt).toBeLessThan(5000);
  });
});

/** One encoder gets every body, the other one only those that the first took: their blocks have to be the same. */
class Twins {
  readonly #tried: BlockEncoder;
  readonly #clean: BlockEncoder;
  readonly #good: RandomRequest;
  readonly #seed: number;
  #count = 0;

  constructor(dialect: 'hive' | 'otelcol', seed: number) {
    this.#tried = new BlockEncoder(dialect);
    this.#clean = new BlockEncoder(dialect);
    this.#good = usualRequest(seed + 1000);
    this.#seed = seed;
    this.#addGood();
  }

  add(body: Uint8Array, encoding: Encoding): Transcoded | undefined {
    const before = this.#tried.rows;
    const transcoded = outcome(this.#tried, body, encoding);
    if (transcoded === undefined) expect(this.#tried.rows).toBe(before);
    else expect(this.#clean.add([body], encoding, 'target')).toEqual(transcoded);
    if (++this.#count % 100 === 0) this.#addGood();
    return transcoded;
  }

  expectEqual(): void {
    this.#addGood();
    const tried = this.#tried.seal();
    const clean = this.#clean.seal();
    expect(tried.rows).toBe(clean.rows);
    expect(zstdDecompressSync(tried.frame).equals(zstdDecompressSync(clean.frame)), `seed ${this.#seed}`).toBe(true);
  }

  #addGood(): void {
    for (const encoder of [this.#tried, this.#clean]) {
      encoder.add([this.#good.json], 'json', 'good target');
      encoder.add([this.#good.protobuf], 'protobuf', 'good target');
    }
  }
}

/** Undefined for a malformed request. Any other error is the test's. */
function outcome(encoder: BlockEncoder, body: Uint8Array, encoding: Encoding): Transcoded | undefined {
  try {
    return encoder.add([body], encoding, 'target');
  } catch (error) {
    if (error instanceof MalformedRequest) return undefined;
    throw error;
  }
}

/** One that has spans, and is small enough for thousands of tries. */
function usualRequest(seed: number): RandomRequest {
  for (let attempt = 0; ; attempt++) {
    const request = randomRequest(new Random(seed + attempt * 2 ** 32), 'usual');
    if (request.canonical.length > 300 && request.json.length < 8000) return request;
  }
}

function mutated(bytes: Uint8Array, random: Random): Buffer {
  const result = [...bytes];
  for (let change = random.between(1, 3); change > 0; change--) {
    const at = random.below(result.length);
    const kind = random.below(4);
    if (kind === 0) result[at] ^= 1 << random.below(8);
    else if (kind === 1) result[at] = random.below(256);
    else if (kind === 2) result.splice(at, random.between(1, 4));
    else result.splice(at, 0, ...random.bytes(random.between(1, 4)));
  }
  return Buffer.from(result);
}

function mutatedJson(json: Buffer, random: Random): Buffer {
  return random.chance(0.15) ? mutated(json, random) : mutateText(json, random);
}

function jsonParses(body: Buffer): boolean {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
    return true;
  } catch {
    return false;
  }
}

function spansIn(body: Uint8Array): number | undefined {
  try {
    return decodeRequest(body).resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)).length;
  } catch {
    return undefined;
  }
}

function withAttribute(value: string): string {
  return `{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":${value}}]}]}]}]}`;
}

function message(tag: number, body: Buffer): Buffer {
  const length: number[] = [];
  let rest = body.length;
  for (; rest >= 0x80; rest >>>= 7) length.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.of(tag, ...length, rest), body]);
}
