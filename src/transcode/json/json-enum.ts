import { BRACE_CLOSE, COMMA, type JsonCursor, LETTER_N, QUOTE, ZERO } from './json-cursor.ts';

/** The names of an enum's values by number, without their common prefix. */
interface EnumNames {
  readonly prefix: string;
  readonly names: readonly string[];
}

/** Span.SpanKind, trace.proto */
export const SPAN_KINDS: EnumNames = {
  prefix: 'SPAN_KIND_',
  names: ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'],
};
/** Status.StatusCode, trace.proto */
export const STATUS_CODES: EnumNames = { prefix: 'STATUS_CODE_', names: ['UNSET', 'OK', 'ERROR'] };

/** The result for a name that the enum does not have. */
export const UNKNOWN_NAME = -0x3fff_ffff;

/**
 * Reads an enum's value at the cursor: a number, as OTLP/JSON requires, or a number as text or a name, as some senders write it.
 * @returns its number, 0 for null, UNKNOWN_NAME for a name that the enum does not have
 * @throws MalformedRequest when it is neither a number, a string nor null
 */
export function readEnum(cursor: JsonCursor, { prefix, names }: EnumNames): number {
  const first = cursor.peek();
  if (first === LETTER_N) {
    cursor.isNull();
    return 0;
  }
  if (first !== QUOTE) {
    const { bytes } = cursor.source;
    const next = bytes[cursor.at + 1];
    if (first >= ZERO && first <= ZERO + 9 && (next === COMMA || next === BRACE_CLOSE)) {
      cursor.at++;
      return first - ZERO;
    }
    cursor.number();
    return cursor.length === 1 ? cursor.source.bytes[cursor.start] - ZERO : Number(cursor.text());
  }
  cursor.string();
  const text = cursor.text();
  if (/^\d+$/.test(text)) return Number(text);
  // Senders write names in any case, with or without the prefix.
  const name = text.toUpperCase();
  const value = names.indexOf(name.startsWith(prefix) ? name.slice(prefix.length) : name);
  return value < 0 ? UNKNOWN_NAME : value;
}
