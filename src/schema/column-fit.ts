import type { Dialect } from '../transcode/columns/dialect.ts';
import { parseCall, type Call } from './column-type.ts';

/** Whether a column stores our values exactly. `lossy`: it may be inserted into, and loses what `reason` says. `refused`: it may not. */
export type ColumnFit = { readonly fit: 'exact' } | { readonly fit: 'lossy' | 'refused'; readonly reason: string };

/** A column of our blocks. */
interface WireColumn {
  readonly name: string;
  readonly type: string;
}

const EXACT: ColumnFit = { fit: 'exact' };
const lossy = (reason: string): ColumnFit => ({ fit: 'lossy', reason });
const refused = (reason: string): ColumnFit => ({ fit: 'refused', reason });

/** The length of ids in digits. In a FixedString, an absent id is all zero bytes, which equals ''. */
const ID_DIGITS: Readonly<Record<string, string>> = {
  TraceId: '32',
  SpanId: '16',
  ParentSpanId: '16',
  'Links.TraceId': '32',
  'Links.SpanId': '16',
};
const WIDE_INTEGER = /^U?Int(64|128|256)$/;
const NARROW_INTEGER = /^U?Int(8|16|32)$/;

/**
 * Whether a table's column can store the values of our column. When ClickHouse reads the Native format it converts between almost all
 * types, even if the result is useless (nanoseconds become seconds in an Int64, a map becomes a text that no function reads), and
 * some conversions fail for certain values only. So only the types that are known to keep the values are accepted.
 * @param tableType the type, as in system.columns
 */
export function columnFit(column: WireColumn, tableType: string, dialect: Dialect): ColumnFit {
  return fitOf(column.name, parseCall(unwrap(column.type)), tableType, dialect);
}

function fitOf(name: string, wire: Call, tableType: string, dialect: Dialect): ColumnFit {
  const table = parseCall(unwrap(tableType));
  switch (wire.name) {
    case 'Array':
      if (table.name !== 'Array') return refused('which is not an Array');
      return fitOf(name, parseCall(unwrap(wire.args[0])), table.args[0], dialect);
    case 'Map':
      return mapFit(table);
    case 'DateTime64':
      return timeFit(table);
    case 'UInt64':
      return numberFit(table);
    default:
      return textFit(name, table, dialect);
  }
}

function textFit(name: string, { name: type, args }: Call, dialect: Dialect): ColumnFit {
  if (type === 'String') return EXACT;
  if (type === 'FixedString' && ID_DIGITS[name] === args[0]) return EXACT;
  if (type !== 'Enum8' && type !== 'Enum16') return refused("which can't hold any text");
  const known = new Set(args.map((member) => /^'(.*)'/.exec(member)?.[1]));
  const missing = enumValues(name, dialect).filter((value) => !known.has(value));
  return missing.length === 0 ? EXACT : refused(`which lacks ${missing.map((value) => `'${value}'`).join(', ')}`);
}

function enumValues(name: string, { spanKinds, statusCodes }: Dialect): readonly string[] {
  if (name === 'SpanKind') return spanKinds.values;
  return name === 'StatusCode' ? statusCodes.values : ['any text'];
}

function timeFit({ name, args }: Call): ColumnFit {
  if (name === 'DateTime64') return args[0] === '9' ? EXACT : lossy(`which keeps ${args[0]} of 9 digits of a second`);
  if (name === 'DateTime') return lossy('which keeps whole seconds, from 1970 to 2106');
  if (WIDE_INTEGER.test(name)) return refused('where ClickHouse would store seconds instead of nanoseconds');
  return refused('which is not a time with nanoseconds');
}

function numberFit({ name }: Call): ColumnFit {
  if (WIDE_INTEGER.test(name)) return EXACT;
  if (name === 'Float64') return lossy('which keeps 53 of 64 bits');
  if (NARROW_INTEGER.test(name)) return refused('which wraps: nanoseconds need 64 bits');
  return refused('which is not a 64-bit number');
}

function mapFit({ name, args }: Call): ColumnFit {
  if (name === 'Map') return args.every((arg) => isText(arg)) ? EXACT : refused('whose keys and values are not all text');
  if (name === 'JSON') return jsonFit(args);
  if (name === 'Array') {
    const pair = parseCall(args[0]);
    if (pair.name === 'Tuple' && pair.args.length === 2 && pair.args.every((arg) => isText(arg.replace(/^\w+ /, '')))) return EXACT;
  }
  return refused('which is neither a Map nor JSON');
}

/** A typed path of a JSON column fails the insert for text that can't be parsed as its type. */
function jsonFit(args: readonly string[]): ColumnFit {
  const typed = args.find((arg) => !/^(max_dynamic_(paths|types) ?=|SKIP )/.test(arg) && !isText(arg.replace(/^(`[^`]*`|\S)+ /, '')));
  if (typed !== undefined) return refused(`whose path ${typed} does not accept text`);
  return lossy(
    'where every value is text (or a date that looks like one), a key with dots is a path, ' +
      'and text that is not UTF-8 is repaired with U+FFFD',
  );
}

function isText(type: string): boolean {
  return parseCall(unwrap(type)).name === 'String';
}

/** The type inside Nullable and LowCardinality, which make no difference: our values are never NULL. */
function unwrap(type: string): string {
  const { name, args } = parseCall(type);
  return name === 'Nullable' || name === 'LowCardinality' ? unwrap(args[0]) : type;
}
