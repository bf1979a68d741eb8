/*
 * A JSON text as a tree that loses nothing of it, unlike the result of JSON.parse: it has all members of an object in their order,
 * repeated ones too, and each string and number as written.
 */

export type JsonTree = JsonScalar | JsonList | JsonObject;

/** `null`, `true`, `false`, a number or a string, as in the text. */
export interface JsonScalar {
  readonly kind: 'scalar';
  readonly text: string;
}

export interface JsonList {
  readonly kind: 'list';
  readonly items: JsonTree[];
}

export interface JsonObject {
  readonly kind: 'object';
  readonly members: JsonMember[];
}

export interface JsonMember {
  /** As in the text, with its quotes. */
  key: string;
  value: JsonTree;
}

const TOKEN = /[ \t\r\n]*([{}[\],:]|"(?:[^"\\]|\\.)*"|[^ \t\r\n{}[\],:"]+)/y;

/** Parses a JSON text. @throws SyntaxError where JSON.parse does */
export function jsonTree(text: string): JsonTree {
  JSON.parse(text);
  let at = 0;
  const next = (): string => {
    TOKEN.lastIndex = at;
    const [, token = ''] = TOKEN.exec(text) ?? [];
    at = TOKEN.lastIndex;
    return token;
  };
  // JSON.parse has checked the text, so the brackets are enough to find the structure.
  const value = (token: string): JsonTree => {
    if (token === '[') return { kind: 'list', items: listed(']', value) };
    if (token !== '{') return { kind: 'scalar', text: token };
    const member = (key: string): JsonMember => {
      next();
      return { key, value: value(next()) };
    };
    return { kind: 'object', members: listed('}', member) };
  };
  function listed<T>(end: string, read: (first: string) => T): T[] {
    const items: T[] = [];
    for (let token = next(); token !== end; token = next()) items.push(read(token === ',' ? next() : token));
    return items;
  }
  return value(next());
}

/** The text of a tree, without white space. */
export function jsonTextOf(tree: JsonTree): string {
  if (tree.kind === 'scalar') return tree.text;
  if (tree.kind === 'list') return `[${tree.items.map(jsonTextOf).join(',')}]`;
  return `{${tree.members.map(({ key, value }) => `${key}:${jsonTextOf(value)}`).join(',')}}`;
}
