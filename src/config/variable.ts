import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { isServerUrl, serverName, urlHost } from './server-url.ts';

/** One environment variable: how its text becomes a value, and what to tell an operator who got it wrong. */
export interface Variable<T> {
  readonly schema: z.ZodType<T, string>;
  /** Undefined: any text, or only this program can tell. */
  readonly rule?: TextRule;
  /** Completes the sentence "Allowed: …". */
  readonly allowed: string;
  readonly help: string;
  /** Taken when the variable is unset. A variable with neither `fallback` nor `optional` must be set. */
  readonly fallback?: T;
  /** How `fallback` comes about, where it depends on the machine. */
  readonly fallbackRule?: string;
  readonly optional?: true;
  /** A variable that can be set in place of this one, which is required otherwise. */
  readonly orVariable?: string;
  /** Values that count as unset: Kubernetes sets CLICKHOUSE_PORT=tcp://10.0.0.1:8123 for a Service that is called clickhouse. */
  readonly ignored?: RegExp;
  /** A flag before it in the table: while that is off, nothing is read, and nothing can be wrong. */
  readonly onlyWith?: string;
  /** Never printed, and may come from a file named by `<NAME>_FILE`. */
  readonly secret?: true;
}

/**
 * The same as `schema`, or less strict, for what checks values without this program: the Helm chart's schema and templates
 * (files/variables.json there). Patterns are RE2, and ignore case.
 */
export interface TextRule {
  readonly pattern?: string;
  /** Commas separate texts that each follow the pattern. */
  readonly isList?: true;
  readonly minimum?: number;
  readonly maximum?: number;
  /** In lower case. */
  readonly values?: readonly string[];
}

export type Values<V extends Record<string, Variable<unknown>>> = {
  readonly [K in keyof V]: V[K] extends Variable<infer T> ? (V[K] extends { optional: true } ? T | undefined : T) : never;
};

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

export function port(fallback: number | undefined, help: string, fallbackRule?: string): Variable<number> {
  return { ...integer({ min: 1, max: 65_535, fallback, fallbackRule, help }), ignored: /^(tcp|udp|sctp):\/\// };
}

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

export function oneOf<const T extends string>(values: readonly [T, ...T[]], fallback: NoInfer<T>, help: string): Variable<T> {
  return {
    schema: z.string().toLowerCase().pipe(z.enum(values)),
    rule: { values },
    allowed: values.join(', '),
    fallback,
    help,
  };
}

export function text(fallback: string, help: string): Variable<string> {
  return { schema: z.string(), allowed: 'any text', fallback, help };
}

/** Members between commas, each of which must match `member`. */
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

/** A name of something in ClickHouse, which goes into statements between backticks. How long it may be is for ClickHouse to say. */
export function identifier(fallback: string, help: string): Variable<string> {
  return { schema: z.string().regex(/^\P{Cc}+$/u), allowed: 'a name without control characters', fallback, help };
}

/** A comma-separated list of URLs. A server has one name, whatever its protocol and query: each may be there once. */
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
      'an http:// or https:// URL, or a comma-separated list of different servers. A path and a query may be in it, but each parameter only once, ' +
      'and not query, query_id, user, password, session_id, compress, decompress, default_format or param_…',
    help,
  };
}

/** A host in place of a URL. */
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

/** The path of a file with certificates or a key, which has to be there at the start. OpenSSL would take one without any for none. */
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

/** For a URL that is requested with fetch, which takes no credentials in it. */
export function plainHttpUrl(help: string): Variable<string> {
  return {
    schema: z.url({ protocol: /^https?$/ }).regex(/^[^:]*:\/\/[^/?#@]*([/?#]|$)/),
    rule: { pattern: '^https?://[^/?#@ ]+([/?#].*)?$' },
    allowed: 'an http:// or https:// URL without credentials in it',
    help,
  };
}

export function secret<V extends Variable<unknown>>(variable: V): V & { secret: true } {
  return { ...variable, secret: true };
}

/** A part of a whole. */
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

/** Headers as OpenTelemetry has them: `name=value` with commas between, values percent-encoded. */
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

export function onlyWith<V extends Variable<unknown>>(flagName: string, variable: V): V {
  return { ...variable, onlyWith: flagName };
}

export function orElse<V extends Variable<unknown>>(orVariable: string, variable: V): V {
  return { ...variable, orVariable };
}

export function optional<T>(variable: Variable<T>): Variable<T> & { optional: true } {
  return { ...variable, optional: true };
}
