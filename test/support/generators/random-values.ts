import type { AnyValue, KeyValue } from '../oracle/otlp-request.ts';
import type { Random } from './random.ts';

/** Lengths in bytes around which a length's varint gets longer, text is copied in another way, or an index gets wider. */
const SHORT_BOUNDARIES = [0, 1, 31, 32, 33, 39, 40, 41, 63, 64, 127, 128, 255, 256];
const LONG_BOUNDARIES = [16383, 16384, 65535, 65536, 70_000];

/** Code point ranges, both ends included; none holds surrogates. */
const PLAIN: [number, number][] = [[0x20, 0x7e]];
const LETTERS: [number, number][] = [[0x61, 0x7a]];
const EVERY_PLANE: [number, number][] = [
  [0x20, 0x7e],
  [0x80, 0x7ff],
  [0x800, 0xd7ff],
  [0xe000, 0xffff],
  [0x1f300, 0x1f6ff],
  [0x10000, 0x10ffff],
];
/** Characters that are often escaped wrongly: controls, quotes, backslashes, HTML, line separators, the byte order mark. */
const HARD_TO_ESCAPE = [
  ...Array.from({ length: 0x20 }, (_, code) => String.fromCodePoint(code)),
  ...Array.from('"\\/<>&\'\u007f\u0080\u2028\u2029\ufeff\ufffd\uffff\u{10000}\u{10ffff}'),
];

const KEYS = [
  'service.name',
  'service.version',
  'hive.target_id',
  'http.method',
  'http.url',
  'http.status_code',
  'graphql.document',
  'graphql.operation.name',
  'graphql.operation.type',
  'exception.type',
  'exception.stacktrace',
  'key',
  'value',
  'a',
  'A',
  '1',
  '10',
  '9',
  '',
  '__proto__',
  'constructor',
  '\uffff',
  '\u{10000}',
  '<&>',
];

const INTEGERS = [
  0n,
  1n,
  -1n,
  127n,
  128n,
  2n ** 31n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  -(2n ** 53n) - 1n,
  2n ** 63n - 1n,
  -(2n ** 63n),
];

/** Zeros, values where the notation changes, halfway cases, the smallest and the largest values, NaN and infinities. */
const DOUBLES = [
  0,
  -0,
  1,
  -1,
  100,
  1e6,
  1e20,
  1e21,
  -1e21,
  1e22,
  1e23,
  1.5e300,
  2 ** 53,
  2 ** 53 + 2,
  2 ** 63,
  2 ** 64,
  0.1,
  0.1 + 0.2,
  -2.5,
  123456789.125,
  1e-6,
  1e-7,
  -1.5e-7,
  1.2345e-10,
  5e-324,
  2.2250738585072014e-308,
  Number.MAX_VALUE,
  -Number.MAX_VALUE,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
];

const DEEPEST = 6;

/** Random attribute values, keys and texts of every kind. */
export class RandomValues {
  readonly #random: Random;
  readonly #longTextChance: number;

  /** @param longTextChance probability that a text is long: 16 to 70 KB */
  constructor(random: Random, longTextChance: number) {
    this.#random = random;
    this.#longTextChance = longTextChance;
  }

  text(): string {
    const random = this.#random;
    if (random.chance(this.#longTextChance)) return this.#characters(PLAIN, random.pick(LONG_BOUNDARIES));
    if (random.chance(0.05)) return this.#characters(LETTERS, random.pick(SHORT_BOUNDARIES));
    if (random.chance(0.1)) return this.#characters(EVERY_PLANE, random.below(30));
    if (random.chance(0.07)) return this.#hardToEscape(random.below(12));
    return this.#characters(PLAIN, random.below(25));
  }

  #characters(ranges: [number, number][], count: number): string {
    let text = '';
    for (let index = 0; index < count; index++) text += String.fromCodePoint(this.#random.between(...this.#random.pick(ranges)));
    return text;
  }

  #hardToEscape(count: number): string {
    let text = '';
    for (let index = 0; index < count; index++) text += this.#random.chance(0.3) ? 'x' : this.#random.pick(HARD_TO_ESCAPE);
    return text;
  }

  key(): string {
    const random = this.#random;
    if (random.chance(0.75)) return random.pick(KEYS);
    if (random.chance(0.15)) return this.text();
    return this.#characters(LETTERS, random.between(1, 12));
  }

  integer(): bigint {
    const random = this.#random;
    if (random.chance(0.4)) return random.pick(INTEGERS);
    return random.chance(0.5) ? BigInt(random.below(1000)) : BigInt.asIntN(64, random.uint64());
  }

  double(): number {
    const random = this.#random;
    if (random.chance(0.5)) return random.pick(DOUBLES);
    if (random.chance(0.5)) return random.below(1e6) / 1000;
    return random.bytes(8).readDoubleLE();
  }

  value(depth = 1): AnyValue {
    const random = this.#random;
    const kind = random.below(depth < DEEPEST ? 13 : 9);
    switch (kind) {
      case 0:
        return {};
      case 1:
      case 2:
      case 3:
        return { stringValue: this.text() };
      case 4:
        return { boolValue: random.chance(0.5) };
      case 5:
      case 6:
        return { intValue: this.integer() };
      case 7:
        return { doubleValue: this.double() };
      case 8:
        return { bytesValue: random.bytes(random.pick([0, 1, 2, 3, 4, 8, 16, 31, 130])) };
      case 9:
      case 10:
        return { arrayValue: { values: this.#list(() => this.value(depth + 1)) } };
      default:
        return { kvlistValue: { values: this.#list(() => this.#keyValue(this.key(), depth + 1)) } };
    }
  }

  #list<T>(element: () => T): T[] {
    return Array.from({ length: this.#random.pick([0, 1, 1, 1, 2, 3]) }, element);
  }

  #keyValue(key: string, depth: number): KeyValue {
    return {
      ...(key !== '' && { key }),
      ...(!this.#random.chance(0.03) && { value: this.value(depth) }),
    };
  }

  /** Some keys occur twice. */
  attributes(count: number): KeyValue[] {
    const keys: string[] = [];
    for (let index = 0; index < count; index++) keys.push(index > 0 && this.#random.chance(0.1) ? this.#random.pick(keys) : this.key());
    return keys.map((key) => this.#keyValue(key, 1));
  }

  /** Distinct keys with distinct short values, to fill dictionaries. */
  distinctAttributes(from: number, count: number): KeyValue[] {
    return Array.from({ length: count }, (_, index) => ({ key: `key.${from + index}`, value: { stringValue: `value ${from + index}` } }));
  }

  /** One attribute for each of the long lengths, which its key and its value have. */
  longAttributes(): KeyValue[] {
    return LONG_BOUNDARIES.map((length) => ({
      key: this.#characters(LETTERS, length),
      value: { stringValue: this.#characters(PLAIN, length) },
    }));
  }
}
