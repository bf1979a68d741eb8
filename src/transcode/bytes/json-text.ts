import { ByteBuffer } from './byte-buffer.ts';
import { MalformedRequest } from './malformed-request.ts';
import { appendRepaired, repairedLength } from './utf8-repair.ts';

/** By byte: the second character of its two-character escape, 'u' for \u00xx, 0 if it needs none. */
const ESCAPES = new Uint8Array(256);
for (let control = 0; control < 0x20; control++) ESCAPES[control] = 'u'.charCodeAt(0);
for (const [character, escape] of [
  ['\b', 'b'],
  ['\f', 'f'],
  ['\n', 'n'],
  ['\r', 'r'],
  ['\t', 't'],
  ['"', '"'],
  ['\\', '\\'],
]) {
  ESCAPES[character.charCodeAt(0)] = escape.charCodeAt(0);
}

/** By byte: the rest of its \u00xx escape. */
const LONG_ESCAPES = Array.from({ length: 256 }, (_, byte) => `u${byte.toString(16).padStart(4, '0')}`);

/**
 * Appends text as a JSON string: with the escapes of JSON.stringify, or of Go's encoding/json, which also escapes line separators.
 * Invalid UTF-8 is repaired, as JSON must be UTF-8.
 */
export function writeJsonString(out: ByteBuffer, source: ByteBuffer, start: number, length: number, goJson: boolean): void {
  const end = start + length;
  const before = out.length;
  let all = 0;
  out.byte(QUOTE);
  let copied = start;
  for (let at = start; at < end; at++) {
    const byte = source.bytes[at];
    all |= byte;
    const escape = ESCAPES[byte];
    const lineSeparator =
      goJson && byte === 0xe2 && at + 2 < end && source.bytes[at + 1] === 0x80 && (source.bytes[at + 2] & 0xfe) === 0xa8;
    if (escape === 0 && !lineSeparator) continue;
    out.copy(source, copied, at - copied);
    if (lineSeparator) {
      out.ascii(source.bytes[at + 2] === 0xa8 ? '\\u2028' : '\\u2029');
      at += 2;
    } else {
      out.byte(BACKSLASH);
      if (escape === LETTER_U) out.ascii(LONG_ESCAPES[byte]);
      else out.byte(escape);
    }
    copied = at + 1;
  }
  out.copy(source, copied, end - copied);
  out.byte(QUOTE);
  if (all >= 0x80) repairJsonString(out, before, source, start, length, goJson);
}

/** Writes the string that begins at `before` again, if its text is not UTF-8. */
function repairJsonString(out: ByteBuffer, before: number, source: ByteBuffer, start: number, length: number, goJson: boolean): void {
  const repaired = repairedLength(source.bytes, start, start + length);
  if (repaired < 0) return;
  const text = new ByteBuffer(repaired);
  appendRepaired(text, source, start, length, repaired);
  out.length = before;
  writeJsonString(out, text, 0, repaired, goJson);
}

/**
 * Appends the output of `write` as the next item of an array or object, after a comma if it is not the first. If `write` returns false,
 * nothing is appended.
 * @returns whether there is an item
 */
export function writeItem(out: ByteBuffer, first: boolean, write: () => boolean): boolean {
  const before = out.length;
  if (!first) out.byte(COMMA);
  if (write()) return true;
  out.length = before;
  return false;
}

/** A member of the open JSON object: the offsets of its start, the end of its key, and its end. */
export interface JsonMember {
  readonly start: number;
  readonly keyEnd: number;
  readonly end: number;
}

/** Limits the memory of a kvlist: each member takes far more than its bytes in a request. */
const MAX_MEMBERS = 1 << 20;

/** Adds a member to the open object. @throws MalformedRequest when there are more than MAX_MEMBERS */
export function addMember(members: JsonMember[], member: JsonMember): void {
  if (members.push(member) > MAX_MEMBERS) throw new MalformedRequest(`a kvlist may hold ${MAX_MEMBERS} members`);
}

/**
 * Closes an object whose members are at the end of `out`, after its brace. Of a key that is given more than once, the last value is kept,
 * at the position of the first. With `sorted`, members are sorted by their keys' bytes.
 */
export function closeObject(out: ByteBuffer, members: readonly JsonMember[], sorted: boolean): void {
  if (members.length > 1) {
    const byKey = new Map<string, JsonMember>();
    for (const member of members) byKey.set(out.bytes.toString('latin1', member.start, member.keyEnd), member);
    if (sorted || byKey.size < members.length) rewrite(out, members[0].start, byKey, sorted);
  }
  out.byte(BRACE_CLOSE);
}

function rewrite(out: ByteBuffer, start: number, byKey: ReadonlyMap<string, JsonMember>, sorted: boolean): void {
  const text = Buffer.from(out.bytes.subarray(start, out.length));
  const keys = [...byKey.keys()];
  if (sorted) {
    const bytes = new Map(keys.map((key) => [key, unescaped(key)]));
    keys.sort((a, b) => Buffer.compare(bytes.get(a)!, bytes.get(b)!));
  }
  out.length = start;
  for (const [i, key] of keys.entries()) {
    const member = byKey.get(key)!;
    if (i > 0) out.byte(COMMA);
    out.reserve(member.end - member.start);
    out.length += text.copy(out.bytes, out.length, member.start - start, member.end - start);
  }
}

/** The bytes of a key, given as the latin1 form of its JSON string. */
function unescaped(key: string): Buffer {
  const text: string = JSON.parse(Buffer.from(key, 'latin1').toString('utf8'));
  return Buffer.from(text);
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
const BRACE_CLOSE = 0x7d;
