import type { Random } from './random.ts';

const SHORT_ESCAPES = new Map(
  Object.entries({ '"': '\\"', '\\': '\\\\', '/': '\\/', '\b': '\\b', '\f': '\\f', '\n': '\\n', '\r': '\\r', '\t': '\\t' }),
);
const WHITE_SPACE = [' ', '\n', '\r', '\t', '  ', '\r\n', '\n    '];

/** Names that no field has. Some differ from a known name only in case or in one character. */
const UNKNOWN_NAMES = [
  '',
  'x',
  'unknown',
  'Name',
  'NAME',
  'names',
  'traceid',
  'spanID',
  'trace__id',
  'resourceSpan',
  'instrumentationLibraries',
  'keyRef',
  'stringvalue',
  'intValue ',
  'typedValue',
  'statu',
  'link',
  'é',
  '\u{1f41d}',
  '"',
  '}',
  'entityRefs',
];
const UNKNOWN_NUMBERS = ['0', '-0', '1', '-1.5', '1E+10', '0.5e-3', '2e400', '123456789012345678901234567890', '1e5'];
const UNKNOWN_TEXTS = ['', 'plain', '"}]', '\\', '\\"', '{"a":[', 'é\u{1f41d}', '\n'];
const DEEPEST = 5;

/** Writes JSON tokens in the style of one unusual sender. Each instance has another random style. */
export class JsonTokens {
  readonly #random: Random;
  readonly #spaceChance: number;
  readonly #escapeChance: number;
  readonly #snakeCaseChance: number;
  /** Probability of an unknown member, a null or a default value. */
  readonly #noise: number;

  constructor(random: Random) {
    this.#random = random;
    this.#spaceChance = random.pick([0, 0.05, 1]);
    this.#escapeChance = random.pick([0, 0, 0.02, 0.3, 1]);
    this.#snakeCaseChance = random.pick([0, 0, 0.1, 1]);
    this.#noise = random.pick([0, 0.02, 0.1]);
  }

  /** Whether to write something unusual next. */
  odd(): boolean {
    return this.#random.chance(this.#noise);
  }

  /** An object of the given members in any order, with unknown ones among them. */
  object(members: [name: string, json: string][]): string {
    const all: [string, string][] = members.map(([name, json]) => [this.#name(name), json]);
    while (this.odd()) all.push([this.#random.pick(UNKNOWN_NAMES), this.#unknown(1)]);
    const texts = this.#random.shuffled(all).map(([name, json]) => this.string(name) + this.#space() + ':' + this.#space() + json);
    return this.#enclosed('{', texts, '}');
  }

  array(elements: string[]): string {
    return this.#enclosed('[', elements, ']');
  }

  /** A JSON text with white space around it. */
  document(json: string): string {
    return this.#space() + json + this.#space();
  }

  string(text: string): string {
    if (this.#escapeChance === 0) return JSON.stringify(text);
    let json = '"';
    for (const character of text) json += this.#character(character);
    return `${json}"`;
  }

  /** A 64-bit integer as text or number: proto3 writes text and reads both, and the JavaScript SDK writes small ones as numbers. */
  integer(value: bigint): string {
    return this.#random.chance(0.5) ? `"${value}"` : String(value);
  }

  uint32(value: number): string {
    return this.#random.chance(0.9) ? String(value) : `"${value}"`;
  }

  /** By number, or by name if it has one. */
  enum(value: number, names: string[]): string {
    const name = names[value];
    if (name === undefined || this.#random.chance(0.7)) return String(value);
    const short = this.odd() ? name.replace(/^(SPAN_KIND|STATUS_CODE)_/, '') : name;
    return this.string(this.odd() ? short.toLowerCase() : short);
  }

  double(value: number): string {
    if (!Number.isFinite(value)) return `"${value}"`;
    const notation = this.#notation(value);
    return this.#random.chance(0.15) ? `"${notation}"` : notation;
  }

  /** Notations that are read back as the same double. */
  #notation(value: number): string {
    if (Object.is(value, -0)) return this.#random.pick(['-0', '-0.0', '-0e5', '-0E-2']);
    const plain = String(value);
    switch (this.#random.below(8)) {
      case 0:
        return value.toExponential();
      case 1:
        return value.toExponential().toUpperCase();
      case 2:
        return value.toPrecision(17);
      case 3:
        return value.toPrecision(21);
      case 4:
        return Number.isInteger(value) ? `${BigInt(value)}` : plain;
      case 5:
        return /[.e]/.test(plain) ? plain : `${plain}.000`;
      default:
        return plain;
    }
  }

  hex(bytes: Buffer): string {
    const lower = bytes.toString('hex');
    const style = this.#random.below(4);
    if (style === 0) return this.string(lower.toUpperCase());
    return this.string(
      style === 1 ? lower.replaceAll(/[a-f]/g, (digit) => (this.#random.chance(0.5) ? digit.toUpperCase() : digit)) : lower,
    );
  }

  base64(bytes: Buffer): string {
    const padded = bytes.toString('base64');
    const text = this.#random.chance(0.7) ? padded : padded.replaceAll('=', '');
    return this.string(this.#random.chance(0.7) ? text : text.replaceAll('+', '-').replaceAll('/', '_'));
  }

  #name(name: string): string {
    return this.#random.chance(this.#snakeCaseChance) ? name.replaceAll(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`) : name;
  }

  #character(character: string): string {
    const short = SHORT_ESCAPES.get(character);
    const needed = character < ' ' || character === '"' || character === '\\';
    if (!needed && !this.#random.chance(this.#escapeChance)) return character;
    if (short !== undefined && this.#random.chance(0.6)) return short;
    let escaped = '';
    // A character outside the basic plane takes two escapes, one for each surrogate.
    for (let unit = 0; unit < character.length; unit++) {
      const digits = character.charCodeAt(unit).toString(16).padStart(4, '0');
      escaped += `\\u${this.#random.chance(0.5) ? digits : digits.toUpperCase()}`;
    }
    return escaped;
  }

  #enclosed(open: string, parts: string[], close: string): string {
    if (this.#spaceChance === 0) return open + parts.join(',') + close;
    return open + parts.map((part) => this.#space() + part + this.#space()).join(',') + this.#space() + close;
  }

  #space(): string {
    return this.#random.chance(this.#spaceChance) ? this.#random.pick(WHITE_SPACE) : '';
  }

  #unknown(depth: number): string {
    const random = this.#random;
    const elements = () => Array.from({ length: random.below(4) }, () => this.#unknown(depth + 1));
    switch (random.below(depth < DEEPEST ? 6 : 4)) {
      case 0:
        return random.pick(['true', 'false', 'null']);
      case 1:
        return random.pick(UNKNOWN_NUMBERS);
      case 2:
      case 3:
        return this.string(random.pick(UNKNOWN_TEXTS));
      case 4:
        return this.#enclosed('[', elements(), ']');
      default:
        // Known names too: in an unknown object they have no meaning.
        return this.#enclosed(
          '{',
          elements().map((json) => `${this.string(random.pick(['spans', 'key', 'value', 'a']))}:${json}`),
          '}',
        );
    }
  }
}
