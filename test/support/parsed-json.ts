import protobuf from 'protobufjs/light.js';
import { ExportTraceServiceRequest } from '../../src/otlp/messages.ts';
import type { OtlpRequest } from './otlp-request.ts';

type Json = null | boolean | string | Digits | Json[] | { [name: string]: Json };

/** A number's own digits, as a double does not hold every 64-bit integer. */
class Digits {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  toString(): string {
    return this.text;
  }
}

/**
 * OTLP/JSON as JSON.parse reads it, put into the plain objects of a decoded request (OtlpRequest): the descriptor
 * says which members there are and of what type, so this is a reader of its own.
 *
 * @throws TypeError when a member's value is not of its field's type
 */
export function parsedJson(text: string): OtlpRequest {
  const message = readMessage(ExportTraceServiceRequest, JSON.parse(text, keepDigits));
  // The descriptor holds the shape; TypeScript does not see it.
  return Object.assign({ resourceSpans: [] }, message);
}

function keepDigits(_name: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === 'number' ? new Digits(context?.source ?? String(value)) : value;
}

function readMessage(type: protobuf.Type, json: Json): Record<string, unknown> {
  if (json === null || typeof json !== 'object' || Array.isArray(json) || json instanceof Digits) throw new TypeError(`${type.name} is no object`);
  const result: Record<string, unknown> = {};
  for (const field of type.fieldsArray) {
    const value = json[field.name] ?? json[snakeCase(field.name)] ?? null;
    if (field.repeated) result[field.name] = readList(field, value);
    else if (value !== null) {
      const read = readValue(field, value);
      if (field.partOf !== null || !isDefault(read)) result[field.name] = read;
    }
  }
  return result;
}

function readList(field: protobuf.Field, json: Json): unknown[] {
  if (json === null) return [];
  if (!Array.isArray(json)) throw new TypeError(`${field.name} is no array`);
  return json.map((element) => readValue(field, element));
}

function readValue(field: protobuf.Field, json: Json): unknown {
  if (field.resolvedType instanceof protobuf.Type) return readMessage(field.resolvedType, json);
  const isText = typeof json === 'string';
  if (field.resolvedType instanceof protobuf.Enum && isText) return field.resolvedType.values[json];
  switch (field.type) {
    case 'bool':
      if (typeof json !== 'boolean') throw new TypeError(`${field.name} is no bool`);
      return json;
    case 'string':
      if (!isText) throw new TypeError(`${field.name} is no string`);
      return json;
    case 'bytes':
      if (!isText) throw new TypeError(`${field.name} is no text of bytes`);
      return Buffer.from(json, field.name.endsWith('Id') ? 'hex' : 'base64');
    default:
      if (!isText && !(json instanceof Digits)) throw new TypeError(`${field.name} is no number`);
      return field.type.endsWith('64') ? BigInt(String(json)) : Number(json);
  }
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`);
}

function isDefault(value: unknown): boolean {
  return value === '' || value === 0 || value === 0n || (Buffer.isBuffer(value) && value.length === 0);
}
