import type {
  AnyValue,
  KeyValue,
  Link,
  OtlpRequest,
  Resource,
  ResourceSpans,
  Scope,
  ScopeSpans,
  Span,
  SpanEvent,
  Status,
} from '../oracle/otlp-request.ts';
import { RandomValues } from './random-values.ts';
import type { Random } from './random.ts';
import {
  bytesField,
  doubleField,
  fixed32Field,
  fixed64Field,
  stringField,
  tag,
  varint,
  varintField,
  WIRE_GROUP_END,
  WIRE_GROUP_START,
} from './wire.ts';

/**
 * Encodes a request as no exporter does, but as any reader of Protobuf must accept:
 * - fields in any order; the elements of a repeated field keep theirs
 * - scalars more than once, and several members of a oneof: the last one counts
 * - embedded messages in pieces, which are merged
 * - default values written out
 * - unknown fields of every wire type between the known ones, groups within groups
 * - varints longer than they need to be
 * - scope spans with field number 1000, as instrumentation_library_spans
 */
export function shuffledProtobuf(request: OtlpRequest, random: Random): Buffer {
  return Buffer.concat(new Shuffler(random).request(request));
}

/** The encoded fields of a message, in the order they are sent. */
type Fields = Buffer[];

const UNKNOWN_NUMBERS = [100, 1001, 2047, 2048, 20_000, 2 ** 29 - 1];
const DEEPEST_GROUP = 3;

class Shuffler {
  readonly #random: Random;
  readonly #decoys: RandomValues;
  /** Probability of each unusual choice. With 0, fields are shuffled only. */
  readonly #noise: number;

  constructor(random: Random) {
    this.#random = random;
    this.#decoys = new RandomValues(random, 0);
    this.#noise = random.pick([0, 0.01, 0.1]);
  }

  /** ExportTraceServiceRequest */
  request({ resourceSpans }: OtlpRequest): Fields {
    return this.#mixed([this.#messages(1, resourceSpans, (each) => this.#resourceSpans(each))]);
  }

  #resourceSpans({ resource, scopeSpans, schemaUrl }: ResourceSpans): Fields {
    return this.#mixed([
      this.#message(1, resource, (message) => this.#resource(message)),
      this.#messages(this.#odd() ? 1000 : 2, scopeSpans, (each) => this.#scopeSpans(each)),
      this.#string(3, schemaUrl),
    ]);
  }

  #resource({ attributes, droppedAttributesCount }: Resource): Fields {
    return this.#mixed([this.#attributes(1, attributes), this.#uint32(2, droppedAttributesCount)]);
  }

  #scopeSpans({ scope, spans, schemaUrl }: ScopeSpans): Fields {
    return this.#mixed([
      this.#message(1, scope, (message) => this.#scope(message)),
      this.#messages(2, spans, (each) => this.#span(each)),
      this.#string(3, schemaUrl),
    ]);
  }

  #scope({ name, version, attributes, droppedAttributesCount }: Scope): Fields {
    return this.#mixed([
      this.#string(1, name),
      this.#string(2, version),
      this.#attributes(3, attributes),
      this.#uint32(4, droppedAttributesCount),
    ]);
  }

  #span(span: Span): Fields {
    return this.#mixed([
      this.#id(1, span.traceId, 16),
      this.#id(2, span.spanId, 8),
      this.#string(3, span.traceState),
      this.#id(4, span.parentSpanId, 8),
      this.#string(5, span.name),
      this.#enum(6, span.kind),
      this.#fixed64(7, span.startTimeUnixNano),
      this.#fixed64(8, span.endTimeUnixNano),
      this.#attributes(9, span.attributes),
      this.#uint32(10, span.droppedAttributesCount),
      this.#messages(11, span.events, (event) => this.#event(event)),
      this.#uint32(12, span.droppedEventsCount),
      this.#messages(13, span.links, (link) => this.#link(link)),
      this.#uint32(14, span.droppedLinksCount),
      this.#message(15, span.status, (message) => this.#status(message)),
      this.#fixed32(16, span.flags),
    ]);
  }

  #event({ timeUnixNano, name, attributes, droppedAttributesCount }: SpanEvent): Fields {
    return this.#mixed([
      this.#fixed64(1, timeUnixNano),
      this.#string(2, name),
      this.#attributes(3, attributes),
      this.#uint32(4, droppedAttributesCount),
    ]);
  }

  #link({ traceId, spanId, traceState, attributes, droppedAttributesCount, flags }: Link): Fields {
    return this.#mixed([
      this.#id(1, traceId, 16),
      this.#id(2, spanId, 8),
      this.#string(3, traceState),
      this.#attributes(4, attributes),
      this.#uint32(5, droppedAttributesCount),
      this.#fixed32(6, flags),
    ]);
  }

  /** Field 1, formerly deprecated_code, is reserved: readers must skip it. */
  #status({ message, code }: Status): Fields {
    return this.#mixed([this.#odd() ? [varintField(1, 2)] : [], this.#string(2, message), this.#enum(3, code)]);
  }

  #attributes(number: number, attributes: KeyValue[]): Fields {
    return this.#messages(number, attributes, (keyValue) => this.#keyValue(keyValue));
  }

  #keyValue({ key, value }: KeyValue): Fields {
    return this.#mixed([this.#string(1, key), this.#message(2, value, (message) => this.#value(message))]);
  }

  /** The members are one oneof, so the value comes last, after decoys. */
  #value(value: AnyValue): Fields {
    const fields = this.#member(value);
    if (fields.length === 0 || !this.#odd()) return this.#mixed([fields]);
    // Two lists of the same kind in a row would be merged, so a string separates them.
    const decoys = [...this.#member(this.#decoys.value(5)), stringField(1, this.#decoys.text())];
    return this.#mixed([[...decoys, ...fields]]);
  }

  #member(value: AnyValue): Fields {
    if (value.stringValue !== undefined) return [this.#bytes(1, Buffer.from(value.stringValue))];
    if (value.boolValue !== undefined) return [varintField(2, value.boolValue ? this.#true() : 0, this.#padding(9))];
    if (value.intValue !== undefined) return [varintField(3, value.intValue, this.#padding(9))];
    if (value.doubleValue !== undefined) return [doubleField(4, value.doubleValue)];
    if (value.arrayValue !== undefined) {
      return this.#message(5, value.arrayValue, ({ values }) => this.#mixed([this.#messages(1, values, (each) => this.#value(each))]));
    }
    if (value.kvlistValue !== undefined) {
      return this.#message(6, value.kvlistValue, ({ values }) => this.#mixed([this.#attributes(1, values)]));
    }
    return value.bytesValue === undefined ? [] : [this.#bytes(7, value.bytesValue)];
  }

  /** Any varint but 0 is true. */
  #true(): number | bigint {
    return this.#odd() ? this.#random.pick([2, 127, 128, 2n ** 32n, 2n ** 63n]) : 1;
  }

  #string(number: number, value = ''): Fields {
    return this.#scalar(
      value,
      '',
      () => this.#decoys.text(),
      (text) => this.#bytes(number, Buffer.from(text)),
    );
  }

  #id(number: number, value: Buffer | undefined, length: number): Fields {
    const none = Buffer.alloc(0);
    return this.#scalar(
      value ?? none,
      none,
      () => this.#random.bytes(length),
      (id) => this.#bytes(number, id),
    );
  }

  #fixed64(number: number, value = 0n): Fields {
    return this.#scalar(
      value,
      0n,
      () => this.#random.uint64(),
      (unsigned) => fixed64Field(number, unsigned),
    );
  }

  #fixed32(number: number, value = 0): Fields {
    return this.#scalar(
      value,
      0,
      () => this.#random.uint32(),
      (unsigned) => fixed32Field(number, unsigned),
    );
  }

  #uint32(number: number, value = 0): Fields {
    return this.#scalar(
      value,
      0,
      () => this.#random.uint32(),
      (unsigned) => varintField(number, unsigned, this.#padding(9)),
    );
  }

  /** Of a varint with more than 32 bits, the lower 32 are the enum's value. */
  #enum(number: number, value = 0): Fields {
    return this.#scalar(
      value,
      0,
      () => this.#random.below(6),
      (code) => {
        const tooLong = (BigInt(this.#random.uint32()) << 32n) | BigInt.asUintN(32, BigInt(code));
        return varintField(number, this.#odd() && this.#odd() ? tooLong : code, this.#padding(9));
      },
    );
  }

  #bytes(number: number, bytes: Uint8Array): Buffer {
    return bytesField(number, bytes, this.#padding(2));
  }

  /** The field, sometimes after other values for it. A default value is written sometimes, and always after other values. */
  #scalar<T extends string | number | bigint | Buffer>(value: T, none: T, decoy: () => T, encode: (value: T) => Buffer): Fields {
    const fields: Fields = [];
    while (this.#odd()) fields.push(encode(decoy()));
    if (value !== none || fields.length > 0 || this.#odd()) fields.push(encode(value));
    return fields;
  }

  #messages<T>(number: number, messages: T[], encode: (message: T) => Fields): Fields {
    return messages.map((message) => this.#bytes(number, Buffer.concat(encode(message))));
  }

  /** One embedded message, in one piece or in several, which are merged. */
  #message<T>(number: number, message: T | undefined, encode: (message: T) => Fields): Fields {
    if (message === undefined) return [];
    let rest = encode(message);
    const pieces: Fields = [];
    while (this.#odd()) {
      const cut = this.#random.between(0, rest.length);
      pieces.push(this.#bytes(number, Buffer.concat(rest.slice(0, cut))));
      rest = rest.slice(cut);
    }
    return [...pieces, this.#bytes(number, Buffer.concat(rest))];
  }

  /** Mixes groups of fields at random. Fields of a group stay in their order. */
  #mixed(groups: Fields[]): Fields {
    const turns = this.#random.shuffled(groups.flatMap((group, index) => Array.from(group, () => index)));
    const next = groups.map(() => 0);
    const mixed: Fields = [];
    for (const turn of turns) {
      while (this.#odd()) mixed.push(this.#unknown(this.#random.pick(UNKNOWN_NUMBERS)));
      const field = groups[turn][next[turn]++];
      mixed.push(this.#odd() ? withLongerTag(field) : field);
    }
    while (this.#odd()) mixed.push(this.#unknown(this.#random.pick(UNKNOWN_NUMBERS)));
    return mixed;
  }

  #unknown(number: number, depth = 1): Buffer {
    const random = this.#random;
    switch (random.below(depth < DEEPEST_GROUP ? 6 : 4)) {
      case 0:
        return varintField(number, random.uint64() >> BigInt(random.below(64)), this.#padding(9));
      case 1:
        return fixed64Field(number, random.uint64());
      case 2:
        return bytesField(number, random.bytes(random.pick([0, 1, 20, 127, 128, 300])), this.#padding(2));
      case 3:
        return fixed32Field(number, random.uint32());
      default: {
        // All fields in an unknown group are unknown, whatever their numbers.
        const fields = Array.from({ length: random.below(4) }, () => this.#unknown(random.between(1, 20), depth + 1));
        return Buffer.concat([tag(number, WIRE_GROUP_START), ...fields, tag(number, WIRE_GROUP_END)]);
      }
    }
  }

  #padding(most: number): number {
    return this.#odd() ? this.#random.between(1, most) : 0;
  }

  #odd(): boolean {
    return this.#random.chance(this.#noise);
  }
}

/** The field with a tag that is one byte longer than needed. Tags of known fields take one or two bytes, of at most five. */
function withLongerTag(field: Buffer): Buffer {
  const end = field.findIndex((byte) => byte < 0x80) + 1;
  const number = field.readUInt8(0) < 0x80 ? field.readUInt8(0) : (field.readUInt8(0) & 0x7f) | (field.readUInt8(1) << 7);
  return Buffer.concat([varint(number, 1), field.subarray(end)]);
}
