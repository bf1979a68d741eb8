import type { Variable } from './variable.ts';
import { variables } from './variables.ts';

/** Names that Kubernetes and Docker set for services, including a service with the name clickhouse. */
const OF_SERVICES = /_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?|NAME)$/;
/** Least similarity of a misspelled name. CLICKHOUSE_USER has 185, DATABASE_URL 116; equal names have 200. */
const LEAST_SIMILARITY = 140;

/**
 * Warnings about variables with nearly the same name as a variable of the collector. Others are ignored, as every process has many.
 * Variables of OpenTelemetry are ignored, too: its SDKs have some that the collector does not read.
 */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = Object.entries<Variable<unknown>>(variables).flatMap(([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name]));
  return Object.keys(env).flatMap((name) => {
    if (known.includes(name) || name.startsWith('OTEL_') || OF_SERVICES.test(name)) return [];
    const nearest = known.reduce((best, other) => (similarity(name, other) > similarity(name, best) ? other : best));
    return similarity(name, nearest) < LEAST_SIMILARITY ? [] : [`${name} is not a setting of the collector. Did you mean ${nearest}?`];
  });
}

/**
 * How similar two names are: the percentage of the trigrams of `name` that `known` contains, plus the percentage of common trigrams in
 * both names together. Case and underscores are ignored.
 */
function similarity(name: string, known: string): number {
  const letters = known.replaceAll('_', '');
  const groups = trigrams(name.toUpperCase().replaceAll('_', ''));
  const common = groups.filter((group) => letters.includes(group)).length;
  return groups.length === 0 ? 0 : (100 * common) / groups.length + (200 * common) / (groups.length + letters.length - 2);
}

function trigrams(letters: string): string[] {
  return Array.from({ length: Math.max(0, letters.length - 2) }, (_, at) => letters.slice(at, at + 3));
}
