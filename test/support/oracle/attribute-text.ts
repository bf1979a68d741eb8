import type { AnyValue, KeyValue } from './otlp-request.ts';

export type Dialect = 'hive' | 'otelcol';

/** The text as which the value of an attribute is stored; undefined if there is no value. */
export function attributeText(value: AnyValue | undefined, dialect: Dialect): string | undefined {
  if (value === undefined || isAbsent(value)) return undefined;
  if (value.stringValue !== undefined) return value.stringValue;
  if (value.boolValue !== undefined) return String(value.boolValue);
  if (value.intValue !== undefined) return String(value.intValue);
  if (value.doubleValue !== undefined) return doubleText(value.doubleValue, dialect);
  if (value.bytesValue !== undefined) return bytesText(value.bytesValue, dialect);
  return jsonText(value, dialect);
}

/** The text as which a double is stored, outside of arrays and kvlists. */
export function doubleText(value: number, dialect: Dialect): string {
  if (dialect === 'hive') {
    if (Number.isNaN(value)) return 'NaN';
    if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
    return withoutExponent(value);
  }
  return es6Text(value);
}

/** The number as JavaScript prints it, except that a negative zero keeps its sign, as in Go and Rust. */
function es6Text(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

/** The same digits, all of them written out: 1e21 → 1000000000000000000000, as Rust's Display prints an f64. */
function withoutExponent(value: number): string {
  const text = es6Text(value);
  const [mantissa = '', exponentText] = text.split('e');
  if (exponentText === undefined) return text;
  const exponent = Number(exponentText);
  const sign = mantissa.startsWith('-') ? '-' : '';
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.');
  // JavaScript writes an exponent only from 1e21 on and below 1e-6, so the decimal point is never between the digits.
  return exponent > 0 ? sign + whole + fraction.padEnd(exponent, '0') : `${sign}0.${'0'.repeat(-exponent - 1)}${whole}${fraction}`;
}

function bytesText(bytes: Buffer, dialect: Dialect): string {
  return bytes.toString(dialect === 'hive' ? 'hex' : 'base64');
}

function isAbsent(value: AnyValue): boolean {
  return Object.values(value).every((member) => member === undefined);
}

/** A value in an array or kvlist, as JSON. An absent value is null. */
function jsonText(value: AnyValue | undefined, dialect: Dialect): string {
  if (value === undefined || isAbsent(value)) return 'null';
  if (value.stringValue !== undefined) return jsonString(value.stringValue, dialect);
  if (value.boolValue !== undefined) return String(value.boolValue);
  if (value.intValue !== undefined) return String(value.intValue);
  if (value.doubleValue !== undefined) return Number.isFinite(value.doubleValue) ? es6Text(value.doubleValue) : `"${value.doubleValue}"`;
  if (value.bytesValue !== undefined) return `"${bytesText(value.bytesValue, dialect)}"`;
  if (value.arrayValue !== undefined) return jsonArray(value.arrayValue.values, dialect);
  return jsonObject(value.kvlistValue?.values ?? [], dialect);
}

/** hive leaves absent elements out, otelcol writes them as null. */
function jsonArray(values: AnyValue[], dialect: Dialect): string {
  const kept = dialect === 'hive' ? values.filter((value) => !isAbsent(value)) : values;
  return `[${kept.map((value) => jsonText(value, dialect)).join(',')}]`;
}

/** Of equal keys, the last value counts, at the place of the first. otelcol sorts by the keys' bytes, as Go encodes maps. */
function jsonObject(values: KeyValue[], dialect: Dialect): string {
  const members = new Map<string, string>();
  for (const { key = '', value } of values) {
    if (dialect === 'hive' && (value === undefined || isAbsent(value))) continue;
    members.set(key, jsonText(value, dialect));
  }
  const entries = [...members];
  if (dialect === 'otelcol') entries.sort(([one], [other]) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
  return `{${entries.map(([key, text]) => `${jsonString(key, dialect)}:${text}`).join(',')}}`;
}

/** As JSON.stringify; otelcol also escapes line separators, as Go does. */
function jsonString(text: string, dialect: Dialect): string {
  const json = JSON.stringify(text);
  if (dialect === 'hive') return json;
  return json.replace(/[\u2028\u2029]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
