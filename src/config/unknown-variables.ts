import type { Variable } from './variable.ts';
import { variables } from './variables.ts';

/** Set by Kubernetes and Docker for services of any name, also one that is called clickhouse. */
const OF_SERVICES = /_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?|NAME)$/;
/** Least similarity of a misspelled name: CLICKHOUSE_USER has 185, DATABASE_URL 116. At most 300. */
const LEAST_SIMILARITY = 140;

/**
 * Warnings of variables that no collector reads, and whose names are nearly those of variables that it does. Others are not for us to
 * judge: a process has many. Variables of OpenTelemetry are left out as well, as its SDKs have some that are not read here.
 */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = Object.entries<Variable<unknown>>(variables).flatMap(([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name]));
  return Object.keys(env).flatMap((name) => {
    if (known.includes(name) || name.startsWith('OTEL_') || OF_SERVICES.test(name)) return [];
    const nearest = known.reduce((best, other) => (similarity(name, other) > similarity(name, best) ? other : best));
    return similarity(name, nearest) < LEAST_SIMILARITY ? [] : [`${name} is not a setting of the collector. Did you mean ${nearest}?`];
  });
}

/** By the groups of three letters in both: their part of `name`'s groups, in percent, and twice that of all. */
function similarity(name: string, known: string): number {
  const letters = known.replaceAll('_', '');
  const groups = trigrams(name.toUpperCase().replaceAll('_', ''));
  const common = groups.filter((group) => letters.includes(group)).length;
  return groups.length === 0 ? 0 : (100 * common) / groups.length + (200 * common) / (groups.length + letters.length - 2);
}

function trigrams(letters: string): string[] {
  return Array.from({ length: Math.max(0, letters.length - 2) }, (_, at) => letters.slice(at, at + 3));
}
