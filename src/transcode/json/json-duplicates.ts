import type { ByteBuffer } from '../bytes/byte-buffer.ts';
import { BRACKET, JsonCursor } from './json-cursor.ts';
import { END, type JsonFieldNames } from './json-field-names.ts';
import { EVENT, LIBRARY_SPANS, LINK, REQUEST, RESOURCE, RESOURCE_SPANS, SCOPE_SPANS, SPAN } from './json-fields.ts';

/** The fields of a message that are written to columns when they are read, and can't be removed if they are given again. */
interface Parts {
  readonly names: JsonFieldNames;
  /** By field number: lists, and the resource. Null if nothing inside can be given twice. */
  readonly parts: Readonly<Record<number, Parts | null>>;
}

const RESOURCE_PARTS: Parts = { names: RESOURCE, parts: { 1: null } };
const EVENT_PARTS: Parts = { names: EVENT, parts: { 3: null } };
const LINK_PARTS: Parts = { names: LINK, parts: { 4: null } };
const SPAN_PARTS: Parts = { names: SPAN, parts: { 9: null, 11: EVENT_PARTS, 13: LINK_PARTS } };
const SCOPE_SPANS_PARTS: Parts = { names: SCOPE_SPANS, parts: { 2: SPAN_PARTS } };
const LIBRARY_SPANS_PARTS: Parts = { names: LIBRARY_SPANS, parts: { 2: SPAN_PARTS } };
const RESOURCE_SPANS_PARTS: Parts = {
  names: RESOURCE_SPANS,
  parts: { 1: RESOURCE_PARTS, 2: SCOPE_SPANS_PARTS, 1000: LIBRARY_SPANS_PARTS },
};
const REQUEST_PARTS: Parts = { names: REQUEST, parts: { 1: RESOURCE_SPANS_PARTS } };

const SPACE = 0x20;

/**
 * Overwrites each such field with spaces if it is given again later in its object, under either of its names: the last one counts. Each
 * byte is read once for each level of messages above it, and nothing is kept in memory.
 * @param start the offset of the JSON text in the body
 * @throws MalformedRequest
 */
export function eraseSuperseded(body: ByteBuffer, start: number): void {
  const cursor = new JsonCursor(body);
  cursor.at = start;
  eraseIn(cursor, REQUEST_PARTS);
}

/** Erases in the object at the cursor, and leaves the cursor after it. */
function eraseIn(cursor: JsonCursor, { names, parts }: Parts): void {
  /** By field, for the last one so far: the offsets of its member, of its value, and of the next member. */
  const seen = new Map<number, { start: number; value: number; next: number }>();
  cursor.peek();
  let start = cursor.at + 1;
  for (let field = names.first(cursor); field !== END; field = names.next(cursor)) {
    const value = cursor.at;
    cursor.skip();
    cursor.peek();
    const next = cursor.at + 1;
    if (field in parts) {
      const earlier = seen.get(field);
      if (earlier !== undefined) cursor.source.bytes.fill(SPACE, earlier.start, earlier.next);
      seen.set(field, { start, value, next });
    }
    start = next;
  }
  const end = cursor.at;
  for (const [field, { value }] of seen) {
    const inner = parts[field];
    if (inner === null) continue;
    cursor.at = value;
    if (cursor.isNull()) continue;
    if (cursor.peek() !== BRACKET) eraseIn(cursor, inner);
    else if (cursor.openArray())
      do eraseIn(cursor, inner);
      while (cursor.more(BRACKET));
  }
  cursor.at = end;
}
