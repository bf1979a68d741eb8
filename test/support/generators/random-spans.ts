import type { KeyValue, Link, Resource, ResourceSpans, Scope, ScopeSpans, Span, SpanEvent, Status } from '../oracle/otlp-request.ts';
import type { RandomValues } from './random-values.ts';
import type { Random } from './random.ts';

const NOON_NS = 1_763_000_000_000_000_000n;
const DAY_NS = 86_400_000_000_000n;
const EXTREME_TIMES = [0n, 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n];
const UNKNOWN_ENUM_VALUES = [6, 7, 100, 300, -1, 2 ** 31 - 1, -(2 ** 31)];

/** Random messages for a request. Each field is sometimes absent, and sometimes unusual. */
export class RandomSpans {
  readonly #random: Random;
  readonly #values: RandomValues;

  constructor(random: Random, values: RandomValues) {
    this.#random = random;
    this.#values = values;
  }

  resourceSpans(): ResourceSpans {
    return withoutDefaults({
      resource: this.#sometimes(0.9, () => this.#resource()),
      scopeSpans: this.#list([0, 1, 1, 1, 2], () => this.#scopeSpans()),
      schemaUrl: this.#sometimes(0.2, () => this.#values.text()),
    });
  }

  #resource(): Resource {
    return withoutDefaults({ attributes: this.#attributes(8), droppedAttributesCount: this.#uint32() });
  }

  #scopeSpans(): ScopeSpans {
    return withoutDefaults({
      scope: this.#sometimes(0.8, () => this.#scope()),
      spans: this.#list([0, 1, 1, 2, 3, 6], () => this.span(6)),
      schemaUrl: this.#sometimes(0.2, () => this.#values.text()),
    });
  }

  #scope(): Scope {
    return withoutDefaults({
      name: this.#sometimes(0.8, () => this.#values.text()),
      version: this.#sometimes(0.6, () => this.#values.text()),
      attributes: this.#attributes(2),
      droppedAttributesCount: this.#uint32(),
    });
  }

  span(mostAttributes: number): Span {
    const start = this.#time();
    return withoutDefaults({
      traceId: this.#id(16),
      spanId: this.#id(8),
      traceState: this.#sometimes(0.3, () => this.#values.text()),
      parentSpanId: this.#sometimes(0.6, () => this.#id(8)),
      name: this.#sometimes(0.9, () => this.#values.text()),
      kind: this.#enum(5),
      startTimeUnixNano: start,
      endTimeUnixNano: this.#random.chance(0.8) ? BigInt.asUintN(64, start + BigInt(this.#random.uint32())) : this.#time(),
      attributes: this.#attributes(mostAttributes),
      droppedAttributesCount: this.#uint32(),
      events: this.#list([0, 0, 1, 2], () => this.#event()),
      droppedEventsCount: this.#uint32(),
      links: this.#list([0, 0, 0, 1, 2], () => this.#link()),
      droppedLinksCount: this.#uint32(),
      status: this.#sometimes(0.7, () => this.#status()),
      flags: this.#uint32(),
    });
  }

  #event(): SpanEvent {
    return withoutDefaults({
      timeUnixNano: this.#time(),
      name: this.#sometimes(0.9, () => this.#values.text()),
      attributes: this.#attributes(4),
      droppedAttributesCount: this.#uint32(),
    });
  }

  #link(): Link {
    return withoutDefaults({
      traceId: this.#id(16),
      spanId: this.#id(8),
      traceState: this.#sometimes(0.4, () => this.#values.text()),
      attributes: this.#attributes(3),
      droppedAttributesCount: this.#uint32(),
      flags: this.#uint32(),
    });
  }

  #status(): Status {
    return withoutDefaults({ message: this.#sometimes(0.5, () => this.#values.text()), code: this.#enum(2) });
  }

  #sometimes<T>(chance: number, make: () => T): T | undefined {
    return this.#random.chance(chance) ? make() : undefined;
  }

  #list<T>(counts: number[], make: () => T): T[] {
    return Array.from({ length: this.#random.pick(counts) }, make);
  }

  #attributes(most: number): KeyValue[] {
    return this.#values.attributes(this.#random.chance(0.15) ? 0 : this.#random.between(0, most));
  }

  /** Absent, all zeros, or random. Spans with ids of other lengths are rejected, so there are none here. */
  #id(length: number): Buffer | undefined {
    if (this.#random.chance(0.04)) return undefined;
    return this.#random.chance(0.05) ? Buffer.alloc(length) : this.#random.bytes(length);
  }

  #time(): bigint {
    if (this.#random.chance(0.15)) return this.#random.pick(EXTREME_TIMES);
    return NOON_NS + (this.#random.uint64() % DAY_NS);
  }

  #enum(greatest: number): number {
    return this.#random.chance(0.9) ? this.#random.between(0, greatest) : this.#random.pick(UNKNOWN_ENUM_VALUES);
  }

  #uint32(): number {
    if (this.#random.chance(0.6)) return 0;
    return this.#random.chance(0.5) ? this.#random.below(300) : this.#random.uint32();
  }
}

/** Removes scalars with default values: proto3 does not encode them, and the decoded request must equal this one. */
function withoutDefaults<Message extends object>(message: Message): Message {
  for (const [name, value] of Object.entries(message)) {
    const isDefault = value === undefined || value === '' || value === 0 || value === 0n;
    if (isDefault) Reflect.deleteProperty(message, name);
  }
  return message;
}
