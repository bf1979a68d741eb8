import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

/* An alert's runbook link leads to a heading of its name in docs/operations.md. */

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const [, ...rules] = read('charts/hive-otel-collector/files/rules.yaml').split(/^ +- alert: /m);
const alerts = rules.map((rule) => /^\w+/.exec(rule)![0]);
const [, runbook] = read('docs/operations.md').split(/^## Alerts$/m);
const [, ...entries] = runbook.split(/^## /m)[0].split(/^### /m);

test('every alert links to the heading of its name', () => {
  const links = rules.map((rule) => /^ +runbook_url: (\S+)$/m.exec(rule)?.[1]);
  expect(links).toEqual(alerts.map((alert) => `https://runbooks.invalid/#${alert.toLowerCase()}`));
});

test('the runbook has an entry for each alert and no other, in the order of the rules', () => {
  expect(alerts.length).toBeGreaterThan(20);
  expect(entries.map((entry) => entry.split('\n')[0])).toEqual(alerts);
});

test.each(entries.map((entry) => [entry.split('\n')[0], entry]))('the entry of %s says all an operator asks', (_, entry) => {
  expect(Array.from(entry.matchAll(/^- \*\*(\w+):\*\* /gm), ([, question]) => question)).toEqual([
    'Means',
    'Costs',
    'Confirm',
    'Do',
    'Ends',
  ]);
});
