import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { isServerUrl, serverName, urlHost } from './server-url.ts';

/** One environment variable: how its text is parsed, and its description for --help, error messages and documentation. */
export interface Variable<T> {
  readonly schema: z.ZodType<T, string>;
  /** Undefined if any text is allowed, or if only `schema` can check it. */
  readonly rule?: TextRule;
  /** Completes the sentence "Allowed: …". */
  readonly allowed: string;
  /** What the variable does, in sentences. */
  readonly help: string;
  /** The default. A variable with neither `fallback` nor `optional` must be set. */
  readonly fallback?: T;
  /** How `fallback` is calculated, if it depends on the machine: a text for --help. */
  readonly fallbackRule?: string;
  readonly optional?: true;
  /** Another variable that can be set instead of this one, which is required otherwise. */
  readonly orVariable?: string;
  /** Values that count as unset: Kubernetes sets CLICKHOUSE_PORT=tcp://10.0.0.1:8123 for a Service with the name clickhouse. */
  readonly ignored?: RegExp;
  /** The name of a flag earlier in `variables`. While it is off, this variable is neither read nor checked. */
  readonly onlyWith?: string;
  /** The value is never printed, and can be read from a file that `<NAME>_FILE` names. */
  readonly secret?: true;
}

/**
 * The rule of `schema`, or a less strict one, as data: for the Helm chart, whose schema and templates check values by it
 * (files/variables.json there). Patterns are RE2, and ignore case.
 */
export interface TextRule {
  readonly pattern?: string;
  /** The value is a comma-separated list whose members each match the pattern. */
  readonly isList?: true;
  readonly minimum?: number;
  readonly maximum?: number;
  /** The allowed values, in lower case. */
  readonly values?: readonly string[];
}

/** The type of the parsed values of a table of variables. */
export type Values<V extends Record<string, Variable<unknown>>> = {
  readonly [K in keyof V]: V[K] extends Variable<infer T> ? (V[K] extends { optional: true } ? T | undefined : T) : never;
};

/** A whole number within a range, both ends included. `unit` is for the description only. */
export function integer(range: {
  min: number;
  max: number;
  fallback?: number;
  fallbackRule?: string;
  unit?: string;
  help: string;
}): Variable<number> {
  const { min, max, fallback, fallbackRule, unit, help } = range;
  return {
    schema: z
      .string()
      .regex(/^-?\d+$/)
      .transform(Number)
      .pipe(z.number().min(min).max(max)),
    rule: { pattern: '^-?[0-9]+$', minimum: min, maximum: max },
    allowed: `a whole number from ${min} to ${max}${unit === undefined ? '' : ` (${unit})`}`,
    fallback,
    fallbackRule,
    help,
  };
}

/** A TCP port. The values that Kubernetes sets for a Service (tcp://…) count as unset. */
export function port(fallback: number | undefined, help: string, fallbackRule?: string): Variable<number> {
  return { ...integer({ min: 1, max: 65_535, fallback, fallbackRule, help }), ignored: /^(tcp|udp|sctp):\/\// };
}

/** A boolean: true or false, also 1 or 0, yes or no, on or off. */
export function flag(fallback: boolean, help: string): Variable<boolean> {
  const truthy = ['true', '1', 'yes', 'on'];
  const falsy = ['false', '0', 'no', 'off'];
  return {
    schema: z.stringbool({ truthy, falsy }),
    rule: { values: [...truthy, ...falsy] },
    allowed: 'true or false',
    fallback,
    help,
  };
}

/** One of several values, in any case; parsed to lower case. */
export function oneOf<const T extends string>(values: readonly [T, ...T[]], fallback: NoInfer<T>, help: string): Variable<T> {
  return {
    schema: z.string().toLowerCase().pipe(z.enum(values)),
    rule: { values },
    allowed: values.join(', '),
    fallback,
    help,
  };
}

/** Any text. */
export function text(fallback: string, help: string): Variable<string> {
  return { schema: z.string(), allowed: 'any text', fallback, help };
}

/** A comma-separated list whose members each match `member`. Empty members are dropped. */
export function list(member: RegExp, allowed: string, fallback: readonly string[], help: string): Variable<readonly string[]> {
  const members = z.string().transform((given) =>
    given
      .split(',')
      .map((part) => part.trim())
      .filter(Boolean),
  );
  const rule: TextRule = { pattern: member.source, isList: true };
  return { schema: members.pipe(z.array(z.string().regex(member))), rule, allowed, fallback, help };
}

/** The name of a database or table in ClickHouse. It is quoted in statements; ClickHouse checks its length. */
export function identifier(fallback: string, help: string): Variable<string> {
  return { schema: z.string().regex(/^\P{Cc}+$/u), allowed: 'a name without control characters', fallback, help };
}

/** A comma-separated list of URLs of ClickHouse servers. Each server may occur once, whatever its protocol and query. */
export function serverUrls(help: string): Variable<readonly string[]> {
  return {
    schema: z
      .string()
      .transform((given) => given.split(',').map((url) => url.trim()))
      .pipe(z.array(z.url({ protocol: /^https?$/ }).refine(isServerUrl)))
      .refine(
        (urls) =>
          !urls.every((url) => URL.canParse(url)) ||
          new Set(urls.map((url) => serverName(url).replace(/^https?:/, ''))).size === urls.length,
      ),
    allowed:
      'an http:// or https:// URL, or a comma-separated list of different servers. ' +
      'A path and a query may be in it, but each parameter only once, ' +
      'and not query, query_id, user, password, session_id, compress, decompress, default_format or param_…',
    help,
  };
}

/** A host name or IP address, without protocol, port and path. */
export function host(help: string): Variable<string> {
  return {
    schema: z.string().transform((given, context) => {
      const found = urlHost(given);
      if (found === undefined) context.addIssue({ code: 'custom' });
      return found ?? z.NEVER;
    }),
    allowed: 'a host name or an IP address, without protocol, port or path',
    help,
  };
}

/** The path of a PEM file with certificates or a key, which must be readable at the start. OpenSSL would silently ignore another file. */
export function pemFile(help: string): Variable<string> {
  return { schema: z.string().refine(isPem), allowed: 'the path of a readable PEM file', help };
}

function isPem(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').includes('-----BEGIN ');
  } catch {
    return false;
  }
}

/** A URL without credentials, as fetch refuses URLs with credentials. */
export function plainHttpUrl(help: string): Variable<string> {
  return {
    schema: z.url({ protocol: /^https?$/ }).regex(/^[^:]*:\/\/[^/?#@]*([/?#]|$)/),
    rule: { pattern: '^https?://[^/?#@ ]+([/?#].*)?$' },
    allowed: 'an http:// or https:// URL without credentials in it',
    help,
  };
}

/** Marks a variable as secret: its value is never printed, and `<NAME>_FILE` can name a file with it. */
export function secret<V extends Variable<unknown>>(variable: V): V & { secret: true } {
  return { ...variable, secret: true };
}

/** A fraction, from 0 to 1. */
export function ratio(fallback: number, help: string): Variable<number> {
  return {
    schema: z
      .string()
      .regex(/^\d*\.?\d+$/)
      .transform(Number)
      .pipe(z.number().max(1)),
    rule: { pattern: '^[0-9]*[.]?[0-9]+$', minimum: 0, maximum: 1 },
    allowed: 'a number from 0 to 1',
    fallback,
    help,
  };
}

/** Headers in OpenTelemetry's format (OTEL_EXPORTER_OTLP_HEADERS): comma-separated `name=value`, with percent-encoded values. */
export function httpHeaders(help: string): Variable<Readonly<Record<string, string>>> {
  const headers = z.string().transform((given) => Object.fromEntries(given.split(',').filter(Boolean).map(nameAndValue)));
  return {
    schema: headers.pipe(z.record(z.string().regex(/^[!#$%&'*+.^_`|~0-9a-z-]+$/i), z.string().regex(/^[\t\x20-\x7e]*$/))),
    allowed: 'comma-separated name=value pairs; write a comma in a value as %2C',
    help,
  };
}

function nameAndValue(header: string): readonly [string, string] {
  const [, name = '', value = ''] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(header) ?? [];
  try {
    return [name, decodeURIComponent(value)];
  } catch {
    return [name, value];
  }
}

/** Makes a variable depend on a flag: while that is off, the variable is neither read nor checked. */
export function onlyWith<V extends Variable<unknown>>(flagName: string, variable: V): V {
  return { ...variable, onlyWith: flagName };
}

/** Lets another variable be set instead of this one. */
export function orElse<V extends Variable<unknown>>(orVariable: string, variable: V): V {
  return { ...variable, orVariable };
}

/** Allows a variable to be unset, without a default. */
export function optional<T>(variable: Variable<T>): Variable<T> & { optional: true } {
  return { ...variable, optional: true };
}
