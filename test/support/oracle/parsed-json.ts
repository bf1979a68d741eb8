import protobuf from 'protobufjs/light.js';
import { ExportTraceServiceRequest } from './otlp-messages.ts';
import { jsonTree, type JsonMember, type JsonTree } from './json-tree.ts';
import type { OtlpRequest } from './otlp-request.ts';

/** OTLP/JSON as plain objects. */
export interface ParsedJson {
  readonly request: OtlpRequest;
  /** Whether a value that another one supersedes has the wrong type. The collector may refuse such a request or accept it. */
  readonly doubtful: boolean;
}

/** Fields that are not stored. Their values may have any type. */
const NOT_STORED = new Set(['droppedAttributesCount', 'droppedEventsCount', 'droppedLinksCount', 'flags', 'schemaUrl']);
const NUMBER = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
/** In place of an invalid id: no id has this length. */
const BAD_ID = Buffer.alloc(1);

/** Parses OTLP/JSON. @throws SyntaxError, or TypeError when a value is not of its field's type */
export function parsedJson(text: string): OtlpRequest {
  return readJson(text).request;
}

/**
 * Parses OTLP/JSON to the plain objects of a decoded request (OtlpRequest), by the messages' descriptors and independent of the code under
 * test. An id that is not hex gets an invalid length; an intValue that does not fit int64 becomes a doubleValue.
 *
 * @throws SyntaxError, or TypeError when a value is not of its field's type
 */
export function readJson(text: string): ParsedJson {
  const reader = new Reader();
  const message = reader.message(ExportTraceServiceRequest, jsonTree(text));
  // The descriptor gives the shape, which TypeScript can't check.
  return { request: Object.assign({ resourceSpans: [] }, message), doubtful: reader.doubtful };
}

class Reader {
  doubtful = false;

  message(type: protobuf.Type, json: JsonTree): Record<string, unknown> {
    if (json.kind !== 'object') throw new TypeError(`${type.name} is no object`);
    return type.name === 'AnyValue' ? this.#anyValue(type, json.members) : this.#fields(type, json.members);
  }

  /** Of several members for one field, the last one counts. */
  #fields(type: protobuf.Type, given: JsonMember[]): Record<string, unknown> {
    const members = type.name === 'ResourceSpans' ? withoutLibraries(given) : given;
    const result: Record<string, unknown> = {};
    for (const field of type.fieldsArray) {
      const values = members.filter(({ key }) => fieldName(key) === field.name).map(({ value }) => value);
      const isStored = !NOT_STORED.has(field.name) && !(type.name === 'InstrumentationScope' && field.name === 'attributes');
      if (isStored) for (const superseded of values.slice(0, -1)) this.#try(() => this.#field(field, superseded));
      const last = values.at(-1);
      const value = last === undefined ? undefined : isStored ? this.#field(field, last) : this.#notStored(() => this.#field(field, last));
      if (field.repeated) result[field.name] = value ?? [];
      else if (value !== undefined && !isDefault(value)) result[field.name] = value;
    }
    return result;
  }

  /** Of several members, the last one that is not null counts. A null removes an earlier value of the same name. */
  #anyValue(type: protobuf.Type, members: JsonMember[]): Record<string, unknown> {
    let last: { name: string; value: unknown } | undefined;
    const known = members
      .map(({ key, value }) => ({ field: type.fields[fieldName(key)], value }))
      .filter(({ field }) => field !== undefined);
    for (const [index, { field, value }] of known.entries()) {
      const read = index < known.length - 1 ? this.#try(() => this.#field(field, value)) : this.#field(field, value);
      if (read !== undefined) last = { name: field.name, value: read };
      if (isNull(value) && last?.name === field.name) last = undefined;
    }
    if (last === undefined) return {};
    return last.name === 'intValue' && typeof last.value === 'number' ? { doubleValue: last.value } : { [last.name]: last.value };
  }

  /** The value, or undefined if it has the wrong type: then the request is doubtful. */
  #try(read: () => unknown): unknown {
    try {
      return read();
    } catch {
      this.doubtful = true;
      return undefined;
    }
  }

  /** The value of a field that is not stored: it may have any type. */
  #notStored(read: () => unknown): unknown {
    const { doubtful } = this;
    const value = this.#try(read);
    this.doubtful = doubtful;
    return value;
  }

  /** Undefined for null. */
  #field(field: protobuf.Field, json: JsonTree): unknown {
    if (isNull(json)) return undefined;
    if (!field.repeated) return this.#value(field, json);
    if (json.kind !== 'list') throw new TypeError(`${field.name} is no list`);
    // An array of values may hold null.
    return json.items.map((item) => (isNull(item) && field.resolvedType?.name === 'AnyValue' ? {} : this.#value(field, item)));
  }

  #value(field: protobuf.Field, json: JsonTree): unknown {
    if (field.resolvedType instanceof protobuf.Type) return this.message(field.resolvedType, json);
    if (json.kind !== 'scalar') throw new TypeError(`${field.name} is no ${field.type}`);
    const isText = json.text.startsWith('"');
    const text = isText ? textOf(json.text) : json.text;
    if (field.type === 'bool' && (text === 'true' || text === 'false') && !isText) return text === 'true';
    if (field.resolvedType instanceof protobuf.Enum) return enumValue(field.resolvedType, text, isText);
    if (field.type === 'string' && isText) return text;
    if (field.type === 'bytes' && isText) return field.name.endsWith('Id') ? idOf(text, field.name === 'traceId' ? 32 : 16) : base64(text);
    if (field.type === 'double' && isText && ['NaN', 'Infinity', '-Infinity'].includes(text)) return Number(text);
    if (field.type.endsWith('64') && NUMBER.test(text)) return integer(field.type, text);
    if (['double', 'uint32', 'fixed32'].includes(field.type) && NUMBER.test(text)) return Number(text);
    throw new TypeError(`${field.name} is no ${field.type}`);
  }
}

/**
 * Renames instrumentationLibrarySpans to scopeSpans, as they are called since OTLP 0.15. If there are both, the last list of each counts,
 * in the order of the text.
 */
function withoutLibraries(members: JsonMember[]): JsonMember[] {
  if (!members.some(isLibraries)) return members;
  const renamed = members.map((member) => (isLibraries(member) ? { ...member, value: asScopeSpans(member.value) } : member));
  const lists = [members.findLastIndex(isScopes), members.findLastIndex(isLibraries)]
    .filter((index) => index >= 0)
    .toSorted((one, other) => one - other);
  const items = lists.map((index) => renamed[index].value).filter((value) => !isNull(value));
  const whole: JsonTree = items.every((value) => value.kind === 'list')
    ? { kind: 'list', items: items.flatMap((value) => value.items) }
    : { kind: 'scalar', text: 'true' };
  const superseded = renamed.filter((member, index) => (isLibraries(member) || isScopes(member)) && !lists.includes(index));
  const scopes = [...superseded.map(({ value }) => value), whole].map((value) => ({ key: '"scopeSpans"', value }));
  return [...members.filter((member) => !isLibraries(member) && !isScopes(member)), ...scopes];
}

function isLibraries({ key }: JsonMember): boolean {
  return fieldName(key) === 'instrumentationLibrarySpans';
}

function isScopes({ key }: JsonMember): boolean {
  return fieldName(key) === 'scopeSpans';
}

function asScopeSpans(libraries: JsonTree): JsonTree {
  if (libraries.kind !== 'list') return libraries;
  return {
    kind: 'list',
    items: libraries.items.map((each) =>
      each.kind === 'object' ? { kind: 'object', members: each.members.flatMap(renamedLibrary) } : each,
    ),
  };
}

function renamedLibrary({ key, value }: JsonMember): JsonMember[] {
  if (fieldName(key) === 'scope') return [];
  return [{ key: fieldName(key) === 'instrumentationLibrary' ? '"scope"' : key, value }];
}

function textOf(string: string): string {
  const text: string = JSON.parse(string);
  return text.toWellFormed();
}

/** The field's name in lowerCamelCase; a key may be in snake_case. */
function fieldName(key: string): string {
  return textOf(key).replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function isNull(json: JsonTree): boolean {
  return json.kind === 'scalar' && json.text === 'null';
}

function isDefault(value: unknown): boolean {
  return value === '' || value === 0 || value === 0n || (Buffer.isBuffer(value) && value.length === 0);
}

/** Names may be in any case and without their common prefix. NaN stands for an unknown name. */
function enumValue(type: protobuf.Enum, text: string, isText: boolean): number {
  if (!isText && !NUMBER.test(text)) throw new TypeError(`${text} is no ${type.name}`);
  if (!isText || /^\d+$/.test(text)) return Number(text);
  const [, value = Number.NaN] =
    Object.entries(type.values).find(([name]) => [name, name.replace(/^(SPAN_KIND|STATUS_CODE)_/, '')].includes(text.toUpperCase())) ?? [];
  return value;
}

function idOf(text: string, digits: number): Buffer {
  if (text === '') return Buffer.alloc(0);
  return text.length === digits && /^[\da-f]+$/i.test(text) ? Buffer.from(text, 'hex') : BAD_ID;
}

function base64(text: string): Buffer {
  const digits = text.replace(/=+$/, '');
  if (digits.length % 4 === 1 || !/^[\w+/-]*$/.test(digits)) throw new TypeError('no base64');
  return Buffer.from(digits, 'base64');
}

/** A whole number with all its digits, in any notation. One that does not fit int64 is a double. @throws TypeError for such a time */
function integer(type: string, text: string): bigint | number {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = /^(-?)(\d+)\.?(\d*)(?:e(.*))?$/i.exec(text) ?? [];
  const digits = (whole + fraction).replace(/^0+/, '') || '0';
  const zeros = Number(exponent) - fraction.length;
  if (digits === '0') return 0n;
  const isWhole = zeros >= 0 || /^0*$/.test(digits.slice(Math.max(0, digits.length + zeros)));
  const isSmall = digits.length + zeros <= 20;
  if (isWhole && isSmall && digits.length + zeros > 0) {
    const value = BigInt(sign + (zeros >= 0 ? digits + '0'.repeat(zeros) : digits.slice(0, zeros)));
    const fits = type === 'int64' ? BigInt.asIntN(64, value) === value : BigInt.asUintN(64, value) === value;
    if (fits) return value;
  }
  if (type === 'int64') return Number(text);
  throw new TypeError(`${text} is no UInt64`);
}
