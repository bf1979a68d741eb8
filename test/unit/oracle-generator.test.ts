import { describe, expect, test } from 'vitest';
import { type RandomRequest, randomRequest, type Shape } from '../support/generators/random-requests.ts';
import { Random } from '../support/generators/random.ts';
import { withScopeSpans } from '../support/oracle/lenient-protobuf.ts';
import { type AnyValue, decodeRequest, type KeyValue, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';

const SEEDS = Array.from({ length: 400 }, (_, index) => index + 1);
const REQUESTS = new Map(SEEDS.map((seed) => [seed, randomRequest(new Random(seed))]));
const BIG_SHAPES: Shape[] = ['manyKeys', 'vastKeys', 'manySpans', 'longTexts'];

function expectAllTheSame({ request, canonical, protobuf, json }: RandomRequest, origin: string): void {
  expect(decodeRequest(canonical), `plain Protobuf, ${origin}`).toEqual(request);
  expect(decodeRequest(withScopeSpans(protobuf)), `shuffled Protobuf, ${origin}`).toEqual(request);
  expect(parsedJson(json.toString()), `JSON, ${origin}`).toEqual(request);
}

describe('random requests', () => {
  test('mean the same as Protobuf, as shuffled Protobuf and as JSON', () => {
    for (const [seed, request] of REQUESTS) expectAllTheSame(request, `seed ${seed}`);
  });

  test.each(BIG_SHAPES)('mean the same in the shape %s', (shape) => {
    for (const seed of [1, 2]) expectAllTheSame(randomRequest(new Random(seed), shape), `seed ${seed}`);
  });

  test('are the same for the same seed, and others for another', () => {
    const { protobuf, json } = randomRequest(new Random(3), 'usual');
    expect(randomRequest(new Random(3), 'usual')).toMatchObject({ protobuf, json });
    expect(randomRequest(new Random(4), 'usual').protobuf).not.toEqual(protobuf);
  });

  test('hold valid UTF-8 only', () => {
    for (const [seed, { json, request }] of REQUESTS) {
      expect(new TextDecoder('utf-8', { fatal: true }).decode(json), `seed ${seed}`).not.toContain('\0');
      expect(textsOf(request).every((text) => text.isWellFormed())).toBe(true);
    }
  });

  test('have every kind of value, and every oddity, among a few hundred', () => {
    const seen = new Set([...REQUESTS.values()].flatMap((request) => Array.from(traits(request))));
    expect([...seen].toSorted()).toEqual(TRAITS.toSorted());
  });

  test('fill dictionaries past one byte of index and past two', () => {
    expect(distinctKeys(randomRequest(new Random(1), 'manyKeys').request)).toBeGreaterThan(256);
    expect(distinctKeys(randomRequest(new Random(1), 'vastKeys').request)).toBeGreaterThan(65_536);
  });

  test('have texts as long as 70,000 bytes', () => {
    const lengths = textsOf(randomRequest(new Random(1), 'longTexts').request).map((text) => text.length);
    expect(lengths).toEqual(expect.arrayContaining([16_383, 16_384, 65_535, 65_536, 70_000]));
  });
});

const TRAITS = [
  'stringValue',
  'boolValue',
  'intValue',
  'doubleValue',
  'arrayValue',
  'kvlistValue',
  'bytesValue',
  'an empty value',
  'a key without a value',
  'a key twice',
  'an empty key',
  'nested six deep',
  'their target id',
  'NaN',
  'minus zero',
  '2^53 + 1',
  'the least integer',
  'no resource',
  'no scope',
  'no status',
  'a resource without spans',
  'several resources',
  'a span without attributes',
  'no trace id',
  'a trace id of zeros',
  'an unknown kind',
  'a negative duration',
  'a time past 2^63',
  'events',
  'links',
  'an empty request',
  'beyond the basic plane',
  'a resource after its spans',
];

/** Which of TRAITS a request has. */
function* traits({ request, json }: RandomRequest): Generator<string> {
  if (request.resourceSpans.length === 0) yield 'an empty request';
  if (request.resourceSpans.length > 1) yield 'several resources';
  if (/\bscopeSpans\b.*\bresource\b/s.test(json.toString())) yield 'a resource after its spans';
  if (textsOf(request).some((text) => /[\u{10000}-\u{10ffff}]/u.test(text))) yield 'beyond the basic plane';
  for (const attributes of attributeLists(request)) yield* attributeTraits(attributes);
  for (const { resource, scopeSpans } of request.resourceSpans) {
    if (resource === undefined) yield 'no resource';
    if (scopeSpans.every(({ spans }) => spans.length === 0)) yield 'a resource without spans';
    if (scopeSpans.some(({ scope }) => scope === undefined)) yield 'no scope';
  }
  for (const span of spansOf(request)) {
    const { startTimeUnixNano: start = 0n, endTimeUnixNano: end = 0n, kind = 0 } = span;
    if (span.attributes.length === 0) yield 'a span without attributes';
    if (span.traceId === undefined) yield 'no trace id';
    if (span.traceId?.every((byte) => byte === 0) === true) yield 'a trace id of zeros';
    if (span.status === undefined) yield 'no status';
    if (kind < 0 || kind > 5) yield 'an unknown kind';
    if (end < start) yield 'a negative duration';
    if (start >= 2n ** 63n) yield 'a time past 2^63';
    if (span.events.length > 0) yield 'events';
    if (span.links.length > 0) yield 'links';
  }
}

function* attributeTraits(attributes: KeyValue[]): Generator<string> {
  const keys = attributes.map(({ key = '' }) => key);
  if (new Set(keys).size < keys.length) yield 'a key twice';
  if (keys.includes('')) yield 'an empty key';
  if (keys.includes('hive.target_id')) yield 'their target id';
  for (const { value } of attributes) {
    if (value === undefined) yield 'a key without a value';
    else yield* valueTraits(value, 1);
  }
}

function* valueTraits(value: AnyValue, depth: number): Generator<string> {
  yield Object.keys(value)[0] ?? 'an empty value';
  if (depth === 6) yield 'nested six deep';
  if (Number.isNaN(value.doubleValue)) yield 'NaN';
  if (Object.is(value.doubleValue, -0)) yield 'minus zero';
  if (value.intValue === 2n ** 53n + 1n) yield '2^53 + 1';
  if (value.intValue === -(2n ** 63n)) yield 'the least integer';
  for (const element of membersOf(value)) yield* valueTraits(element, depth + 1);
}

function membersOf(value: AnyValue): AnyValue[] {
  return value.arrayValue?.values ?? value.kvlistValue?.values.flatMap((member) => member.value ?? []) ?? [];
}

function spansOf(request: OtlpRequest) {
  return request.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
}

function attributeLists(request: OtlpRequest): KeyValue[][] {
  const holders = [
    ...request.resourceSpans.map(({ resource }) => resource ?? { attributes: [] }),
    ...spansOf(request),
    ...spansOf(request).flatMap(({ events }) => events),
    ...spansOf(request).flatMap(({ links }) => links),
  ];
  return holders.map(({ attributes }) => attributes);
}

function textsOf(request: OtlpRequest): string[] {
  const ofValue = (value: AnyValue): string[] => [value.stringValue ?? '', ...membersOf(value).flatMap(ofValue)];
  const ofAttributes = attributeLists(request).flatMap((attributes) =>
    attributes.flatMap(({ key = '', value = {} }) => [key, ...ofValue(value)]),
  );
  return [...ofAttributes, ...spansOf(request).flatMap(({ name = '', traceState = '' }) => [name, traceState])];
}

function distinctKeys(request: OtlpRequest): number {
  return new Set(attributeLists(request).flatMap((attributes) => attributes.map(({ key }) => key))).size;
}
