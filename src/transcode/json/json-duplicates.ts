import type { ByteBuffer } from '../bytes/byte-buffer.ts';
import { BRACKET, JsonCursor } from './json-cursor.ts';
import { END, type JsonFieldNames } from './json-field-names.ts';
import { EVENT, LIBRARY_SPANS, LINK, REQUEST, RESOURCE, RESOURCE_SPANS, SCOPE_SPANS, SPAN } from './json-fields.ts';

/** The fields of a message that go into columns as they are read, and can't be taken back when they are given again. */
interface Parts {
  readonly names: JsonFieldNames;
  /** By field number: lists, and the resource. Null where nothing in it needs a look. */
  readonly parts: Readonly<Record<number, Parts | null>>;
}

const RESOURCE_PARTS: Parts = { names: RESOURCE, parts: { 1: null } };
const SPAN_PARTS: Parts = {
  names: SPAN,
  parts: { 9: null, 11: { names: EVENT, parts: { 3: null } }, 13: { names: LINK, parts: { 4: null } } },
};
const SCOPE_SPANS_PARTS: Parts = { names: SCOPE_SPANS, parts: { 2: SPAN_PARTS } };
const LIBRARY_SPANS_PARTS: Parts = { names: LIBRARY_SPANS, parts: { 2: SPAN_PARTS } };
const RESOURCE_SPANS_PARTS: Parts = {
  names: RESOURCE_SPANS,
  parts: { 1: RESOURCE_PARTS, 2: SCOPE_SPANS_PARTS, 1000: LIBRARY_SPANS_PARTS },
};
const REQUEST_PARTS: Parts = { names: REQUEST, parts: { 1: RESOURCE_SPANS_PARTS } };

const SPACE = 0x20;

/**
 * Writes white space over every such field that is given again later in its object, under either of its names: the last
 * one is the one. Each byte is passed once for each level of messages above it, and nothing is kept in memory.
 * @param start where in the body its JSON text starts
 * @throws MalformedRequest
 */
export function eraseSuperseded(body: ByteBuffer, start: number): void {
  const cursor = new JsonCursor(body);
  cursor.at = start;
  eraseIn(cursor, REQUEST_PARTS);
}

/** Goes through the object at the cursor, and leaves the cursor behind it. */
function eraseIn(cursor: JsonCursor, { names, parts }: Parts): void {
  /** By field: where its member starts, and its value. */
  const given = new Map<number, { start: number; value: number; behind: number }>();
  cursor.peek();
  let start = cursor.at + 1;
  for (let field = names.first(cursor); field !== END; field = names.next(cursor)) {
    const value = cursor.at;
    cursor.skip();
    cursor.peek();
    const behind = cursor.at + 1;
    if (field in parts) {
      const earlier = given.get(field);
      if (earlier !== undefined) cursor.source.bytes.fill(SPACE, earlier.start, earlier.behind);
      given.set(field, { start, value, behind });
    }
    start = behind;
  }
  const end = cursor.at;
  for (const [field, { value }] of given) {
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
