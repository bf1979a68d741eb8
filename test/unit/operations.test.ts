import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import * as refusals from '../../src/otlp/refusal.ts';

/* docs/operations.md knows every refusal: what varies in one is written as … there. */

const doc = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
const { Refusal, REFUSAL_STATUSES: _statuses, refusedByHive, ...others } = refusals;
const factories: Readonly<Record<string, (...values: never[]) => refusals.Refusal>> = others;

test.each([
  ...Object.entries(factories).map(([name, make]) => [name, make('…' as never, '…' as never)] as const),
  ...([400, 401, 403, 404] as const).map((status) => [`refusedByHive ${status}`, refusedByHive(status, undefined)] as const),
])('it says what %s means', (_, refusal) => {
  expect(refusal).toBeInstanceOf(Refusal);
  expect(doc).toContain(`| ${refusal.status} | ${refusal.message.replaceAll('<', String.raw`\<`)} |`);
});
