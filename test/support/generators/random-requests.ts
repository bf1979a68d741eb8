import { encodeRequest, type KeyValue, type OtlpRequest, type ResourceSpans } from '../oracle/otlp-request.ts';
import { RandomSpans } from './random-spans.ts';
import { RandomValues } from './random-values.ts';
import type { Random } from './random.ts';
import { shuffledProtobuf } from './shuffled-protobuf.ts';
import { variedJson } from './varied-json.ts';

/** One request in three encodings. The rows of `protobuf` and of `json` must equal those that the oracle derives from `canonical`. */
export interface RandomRequest {
  request: OtlpRequest;
  /** Encoded by protobufjs. */
  canonical: Uint8Array;
  /** Equivalent Protobuf with fields shuffled, split and repeated, and with unknown fields. */
  protobuf: Buffer;
  /** OTLP/JSON in any of the forms that JSON and proto3's JSON mapping allow. */
  json: Buffer;
}

/**
 * - `manyKeys`, `vastKeys`: over 256 and over 65,536 distinct keys and values, so dictionary indexes take two and four bytes
 * - `manySpans`: hundreds of spans with different names, in one resource or each in another resource
 * - `longTexts`: keys, values and names up to 70,000 bytes
 */
export type Shape = 'usual' | 'empty' | 'manyKeys' | 'vastKeys' | 'manySpans' | 'longTexts';

/** A request of a shape, random unless given, with random values. */
export function randomRequest(random: Random, shape: Shape = randomShape(random)): RandomRequest {
  const request = drawRequest(random, shape);
  return { request, canonical: encodeRequest(request), protobuf: shuffledProtobuf(request, random), json: variedJson(request, random) };
}

/** Large shapes are slow, so they are rare: a test that needs one gives it. */
function randomShape(random: Random): Shape {
  if (random.chance(0.001)) return 'vastKeys';
  if (random.chance(0.02)) return 'empty';
  if (random.chance(0.02)) return 'manyKeys';
  if (random.chance(0.01)) return 'manySpans';
  return random.chance(0.02) ? 'longTexts' : 'usual';
}

function drawRequest(random: Random, shape: Shape): OtlpRequest {
  const values = new RandomValues(random, shape === 'longTexts' ? 0.01 : 0.0002);
  const spans = new RandomSpans(random, values);
  switch (shape) {
    case 'empty':
      return { resourceSpans: [] };
    case 'manySpans':
      return random.chance(0.5) ? manySpansInOneResource(random, spans) : manyResources(random, spans);
    case 'manyKeys':
      return wideRequest(random, spans, values, random.between(257, 700));
    case 'vastKeys':
      return wideRequest(random, spans, values, random.between(65_537, 67_000));
    case 'longTexts':
      return { resourceSpans: [spans.resourceSpans(), longTextsEverywhere(spans, values)] };
    case 'usual':
    default:
      return { resourceSpans: times(random.pick([0, 1, 1, 1, 2, 3]), () => spans.resourceSpans()) };
  }
}

function longTextsEverywhere(spans: RandomSpans, values: RandomValues): ResourceSpans {
  const attributes = values.longAttributes();
  const [{ key: name } = {}] = attributes;
  const span = Object.assign(spans.span(3), { name, attributes, events: [{ name, attributes }], status: { message: name } });
  return { resource: { attributes }, scopeSpans: [{ scope: { name, version: name, attributes }, spans: [span] }] };
}

function manySpansInOneResource(random: Random, spans: RandomSpans): OtlpRequest {
  const crowded = times(random.between(257, 500), (index) => Object.assign(spans.span(2), { name: `span ${index}` }));
  return { resourceSpans: [{ resource: { attributes: [] }, scopeSpans: [{ spans: crowded }] }] };
}

function manyResources(random: Random, spans: RandomSpans): OtlpRequest {
  return {
    resourceSpans: times(random.between(257, 300), (index) => ({
      resource: { attributes: [{ key: 'service.name', value: { stringValue: `service ${index}` } }] },
      scopeSpans: [{ scope: { name: `scope ${index}`, attributes: [] }, spans: [spans.span(1)] }],
    })),
  };
}

/** All keys in one resource's attributes, or spread over twenty spans. */
function wideRequest(random: Random, spans: RandomSpans, values: RandomValues, keyCount: number): OtlpRequest {
  const inResource = random.chance(0.4);
  const keysEach = inResource ? 1 : Math.ceil(keyCount / 20);
  const wideSpans = times(inResource ? 2 : 20, (index) => {
    const attributes: KeyValue[] = [...values.attributes(2), ...values.distinctAttributes(index * keysEach, keysEach)];
    return Object.assign(spans.span(0), { attributes });
  });
  const resource = { attributes: values.distinctAttributes(0, inResource ? keyCount : 3) };
  return { resourceSpans: [{ resource, scopeSpans: [{ spans: wideSpans }] }] };
}

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}
