import { type JsonMember, jsonTextOf, jsonTree, type JsonTree } from '../oracle/json-tree.ts';
import { EDGE_PAYLOADS, protobufOf, protobufTree, type WireField } from '../oracle/protobuf-tree.ts';
import type { Random } from './random.ts';
import { tag, varint, WIRE_BYTES, WIRE_GROUP_END, WIRE_GROUP_START } from './wire.ts';

/** Mutates a valid body: bits and bytes, moved pieces, fields and members in wrong places. `other` is a valid body to take pieces from. */
export type Mutation = (body: Buffer, other: Buffer, random: Random) => Buffer;

export const mutateProtobuf: Mutation = (body, other, random) => {
  if (random.chance(0.5)) return mutateBytes(body, other, random);
  const tree = protobufTree(body);
  for (let change = random.between(1, 3); change > 0; change--) changeFields(tree, protobufTree(other), random);
  const bytes = protobufOf(tree);
  return random.chance(0.2) ? mutateBytes(bytes, other, random) : bytes;
};

export const mutateJson: Mutation = (body, other, random) => {
  if (random.chance(0.2)) return mutateBytes(body, other, random);
  if (random.chance(0.4)) return mutateText(body, random);
  const tree = jsonTree(body.toString());
  for (let change = random.between(1, 3); change > 0; change--) changeMembers(tree, jsonTree(other.toString()), random);
  const text = Buffer.from(jsonTextOf(tree));
  return random.chance(0.1) ? mutateText(text, random) : text;
};

function mutateBytes(body: Buffer, other: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(body);
  for (let change = random.between(1, 3); change > 0; change--) {
    const at = random.below(bytes.length + 1);
    const until = Math.min(bytes.length, at + random.between(1, random.pick([4, 4, 40])));
    const piece = other.subarray(random.below(other.length + 1)).subarray(0, random.pick([1, 4, 20, 200]));
    switch (random.below(9)) {
      case 0:
      case 1:
        if (at < bytes.length) bytes[at] ^= 1 << random.below(8);
        break;
      case 2:
        if (at < bytes.length) bytes[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), random.bytes(random.between(1, 4)), bytes.subarray(at)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(until)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, until), bytes.subarray(at)]);
        break;
      case 6:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          piece,
          bytes.subarray(random.chance(0.5) ? at : Math.min(bytes.length, at + piece.length)),
        ]);
        break;
      case 7:
        bytes = Buffer.from(bytes.subarray(0, at));
        break;
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random.below(other.length + 1))]);
    }
  }
  return bytes;
}

// ── Protobuf ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Changes the fields of one of the messages in the tree. */
function changeFields(tree: WireField[], other: WireField[], random: Random): void {
  const fields = random.pick(messagesIn(tree));
  const at = random.below(fields.length + 1);
  const field = fields[Math.min(at, fields.length - 1)];
  const donor = random.pick(messagesIn(other));
  switch (random.below(10)) {
    case 0:
      fields.splice(at, 1);
      break;
    case 1:
      if (field !== undefined) fields.splice(random.below(fields.length + 1), 0, field);
      break;
    case 2:
      fields.splice(0, fields.length, ...random.shuffled(fields));
      break;
    case 3:
      if (donor.length > 0) fields.splice(at, 0, random.pick(donor));
      break;
    case 4:
      fields.splice(at, 0, { number: random.pick([...NUMBERS, field?.number ?? 1]), ...random.pick(EDGE_PAYLOADS) });
      break;
    case 5:
      if (field !== undefined) Object.assign(field, random.pick(EDGE_PAYLOADS));
      break;
    case 6:
      if (field !== undefined) field.number = random.pick(NUMBERS);
      break;
    case 7:
      fields.splice(at, 0, group(random, 3));
      break;
    case 8:
      if (field !== undefined && Array.isArray(field.payload)) fields.splice(fields.indexOf(field), 1, ...inPieces(field, random));
      break;
    default:
      if (field !== undefined && field.wireType === WIRE_BYTES) field.length = wrongLength(field, random);
  }
}

const NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 100, 2 ** 29 - 1];

function messagesIn(fields: WireField[]): WireField[][] {
  return [fields, ...fields.flatMap(({ payload }) => (Array.isArray(payload) ? messagesIn(payload) : []))];
}

/** An unknown field that is a group; its end is sometimes wrong or missing. */
function group(random: Random, depth: number): WireField {
  const number = random.pick([1, 2, 5, 9, 100]);
  const inner = depth > 0 && random.chance(0.5) ? protobufOf([group(random, depth - 1)]) : Buffer.alloc(0);
  const end = random.chance(0.8) ? tag(number, WIRE_GROUP_END) : random.pick([tag(number + 1, WIRE_GROUP_END), Buffer.alloc(0)]);
  return { number, wireType: WIRE_GROUP_START, payload: Buffer.concat([inner, end]) };
}

function inPieces(field: WireField, random: Random): WireField[] {
  const fields = Array.isArray(field.payload) ? field.payload : [];
  const cut = random.below(fields.length + 1);
  return [
    { ...field, payload: fields.slice(0, cut) },
    { ...field, payload: fields.slice(cut) },
  ];
}

/** A wrong length, or the right one in more bytes than needed. */
function wrongLength({ payload }: WireField, random: Random): Buffer {
  const { length } = Array.isArray(payload) ? protobufOf(payload) : payload;
  return random.pick([
    varint(length, random.between(1, 9)),
    varint(length + 1),
    varint(Math.max(0, length - 1)),
    varint(2 ** 31),
    varint(2n ** 32n + BigInt(length)),
    varint(2n ** 64n - 1n),
  ]);
}

// ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const FRAGMENTS = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '-',
  '.',
  'e',
  'E',
  '+',
  '0',
  '1',
  '00',
  ' ',
  '\t',
  '\n',
  '\r',
  '\v',
  '\f',
  '\0',
  '\u0001',
  '\u001f',
  '\u007f',
  '\u2028',
  '\ufeff',
  '\u00a0',
  'true',
  'false',
  'null',
  'nul',
  'NaN',
  'Infinity',
  '-',
  '01',
  '1.',
  '.5',
  '1e',
  '1e+',
  '-0',
  '\\u',
  '\\u12',
  '\\ud800',
  '\\x',
  "\\'",
  '{}',
  '[]',
  '""',
  ',,',
  '{"',
  '":',
  '//',
  '/**/',
  '\ud83d\udc1d',
  'é',
];

/** Inserts fragments of JSON at random places, removes characters and copies pieces of the text. */
export function mutateText(json: Buffer, random: Random): Buffer {
  let text = json.toString();
  for (let change = random.between(1, 2); change > 0; change--) {
    const at = random.below(text.length);
    const kind = random.below(4);
    const fragment = random.pick(FRAGMENTS);
    if (kind === 0) text = text.slice(0, at) + fragment + text.slice(at);
    else if (kind === 1) text = text.slice(0, at) + fragment + text.slice(at + fragment.length);
    else if (kind === 2) text = text.slice(0, at) + text.slice(at + random.between(1, 3));
    else text = withPieceCopied(text, at, random);
  }
  return Buffer.from(text);
}

/** Copies a piece of the text to another place: members occur twice, and values in the wrong place. */
function withPieceCopied(text: string, at: number, random: Random): string {
  const starts = [...text.matchAll(/[{[,]/g)].map(({ index }) => index);
  if (starts.length === 0) return text;
  const start = random.pick(starts);
  const end = starts.find((index) => index > start + random.below(80)) ?? start;
  const target = starts.find((index) => index >= at) ?? 0;
  return text.slice(0, target) + text.slice(start, end) + text.slice(target);
}

const EDGE_VALUES = [
  'null',
  'true',
  'false',
  '{}',
  '[]',
  '""',
  '0',
  '-0',
  '1',
  '-1',
  '2.5',
  '1.0',
  '1e3',
  '1E+2',
  '10e-1',
  '1.5e1',
  '9007199254740993.0',
  '1e400',
  '1e-400',
  '9223372036854775807',
  '9223372036854775808',
  '-9223372036854775808',
  '-9223372036854775809',
  '18446744073709551615',
  '18446744073709551616',
  '1234567890123456789e0',
  '123456789012345678901234567890',
  '"7"',
  '"007"',
  '"-7"',
  '"1e3"',
  '"1763000000000000001"',
  '"NaN"',
  '"Infinity"',
  '"-Infinity"',
  '"0x10"',
  '" 1"',
  '"SPAN_KIND_CLIENT"',
  '"STATUS_CODE_ERROR"',
  '"\\ud800"',
  '"\\udc1d\\ud83d"',
  '"\\ud83d\\udc1d"',
  '"\\u0000"',
  '"AAEC"',
  '"-_8="',
  '"+/8"',
  '"A"',
  '[null]',
  '[{}]',
  '{"stringValue":"a"}',
  '{"values":[null,{}]}',
  '"0123456789ABCDEF"',
  '"0123456789abcdef0123456789abcdef"',
  '"00000000000000000000000000000000"',
];
const KEYS = [
  'resourceSpans',
  'resource',
  'scopeSpans',
  'attributes',
  'scope',
  'spans',
  'name',
  'version',
  'traceId',
  'spanId',
  'traceState',
  'parentSpanId',
  'kind',
  'startTimeUnixNano',
  'endTimeUnixNano',
  'events',
  'links',
  'status',
  'message',
  'code',
  'timeUnixNano',
  'key',
  'value',
  'values',
  'stringValue',
  'boolValue',
  'intValue',
  'doubleValue',
  'arrayValue',
  'kvlistValue',
  'bytesValue',
  'trace_id',
  'int_value',
  'start_time_unix_nano',
  'x',
  '__proto__',
  'flags',
];

/** Changes the members or items of one of the objects and lists in the tree. */
function changeMembers(tree: JsonTree, other: JsonTree, random: Random): void {
  const node = random.pick(branchesOf(tree));
  const donor = random.pick(branchesOf(other));
  if (node.kind === 'list') return changeItems(node.items, donor, random);
  const { members } = node;
  const at = random.below(members.length + 1);
  const member = members[Math.min(at, members.length - 1)];
  const donated =
    donor.kind === 'object' && donor.members.length > 0
      ? random.pick(donor.members)
      : { key: JSON.stringify(random.pick(KEYS)), value: donor };
  switch (random.below(8)) {
    case 0:
      members.splice(at, 1);
      break;
    case 1:
      if (member !== undefined)
        members.splice(random.below(members.length + 1), 0, { ...member, value: random.chance(0.5) ? member.value : edge(random) });
      break;
    case 2:
      members.splice(0, members.length, ...random.shuffled(members));
      break;
    case 3:
      members.splice(at, 0, { ...donated });
      break;
    case 4:
      if (member !== undefined) member.value = random.chance(0.6) ? edge(random) : donated.value;
      break;
    case 5:
      if (member !== undefined) member.key = JSON.stringify(random.pick(KEYS));
      break;
    case 6:
      if (member !== undefined) member.key = otherSpelling(member, random);
      break;
    default:
      members.splice(at, 0, { key: JSON.stringify(random.pick(KEYS)), value: edge(random) });
  }
}

function changeItems(items: JsonTree[], donor: JsonTree, random: Random): void {
  const at = random.below(items.length + 1);
  const kind = random.below(4);
  if (kind === 0) items.splice(at, 1);
  else if (kind === 1 && at < items.length) items.splice(random.below(items.length + 1), 0, items[at]);
  else if (kind === 2) items.splice(at, 0, random.chance(0.5) ? donor : edge(random));
  else items.splice(0, items.length, ...random.shuffled(items));
}

function branchesOf(tree: JsonTree): Exclude<JsonTree, { kind: 'scalar' }>[] {
  if (tree.kind === 'scalar') return [{ kind: 'list', items: [tree] }];
  const inner = tree.kind === 'list' ? tree.items : tree.members.map(({ value }) => value);
  return [tree, ...inner.filter(({ kind }) => kind !== 'scalar').flatMap(branchesOf)];
}

function edge(random: Random): JsonTree {
  return jsonTree(random.pick(EDGE_VALUES));
}

/** The same key in snake_case, or with escapes. */
function otherSpelling({ key }: JsonMember, random: Random): string {
  if (random.chance(0.5)) return key.replaceAll(/(?<!\\.*)[A-Z]/g, (capital) => `_${capital.toLowerCase()}`);
  return key.replace(/(?<!\\.*)[a-z]/, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
