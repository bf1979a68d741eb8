/** A ClickHouse type, or an engine with its arguments: `Map(String, UInt8)` has the name Map and two arguments. */
export interface Call {
  readonly name: string;
  readonly args: readonly string[];
}

/** Parses a type or an engine. A name without brackets has no arguments; arguments stay text, as they may be nested. */
export function parseCall(text: string): Call {
  const open = text.indexOf('(');
  if (open < 0) return { name: text.trim(), args: [] };
  return { name: text.slice(0, open).trim(), args: splitArguments(text.slice(open + 1, text.lastIndexOf(')'))) };
}

/** Splits at the commas outside brackets and quotes. */
function splitArguments(text: string): string[] {
  const args: string[] = [];
  let depth = 0;
  let quote = '';
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (quote !== '') {
      if (character === '\\') at++;
      else if (character === quote) quote = '';
    } else if (character === "'" || character === '`') quote = character;
    else if (character === '(') depth++;
    else if (character === ')') depth--;
    else if (character === ',' && depth === 0) {
      args.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  const last = text.slice(start).trim();
  return last === '' ? args : [...args, last];
}

/** The type without LowCardinality and time zones, which change neither the values nor how they are queried. */
export function plainType(type: string): string {
  return type
    .replace(/LowCardinality\((\w+)\)/g, '$1')
    .replace(/(DateTime(?:64\(\d+)?)(?:\(|, )'[^']*'\)/g, (_, name: string) => (name.includes('(') ? `${name})` : name));
}

/** The time zone of a DateTime or DateTime64 type; undefined if it names none. */
export function timeZone(type: string): string | undefined {
  return /DateTime(?:64\(\d+, |\()'([^']*)'\)/.exec(type)?.[1];
}
