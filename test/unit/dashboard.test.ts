import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

/* The Grafana dashboard of the chart. That its expressions are PromQL: npm run chart:check; that its metrics exist: chart-files.test.ts. */

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly links?: readonly { readonly url: string }[];
}

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const dashboard = JSON.parse(read('charts/hive-otel-collector/files/dashboard.json')) as {
  panels: readonly Panel[];
  links: readonly { url: string }[];
};
const { panels } = dashboard;

test('it opens with one row that says whether all is well', () => {
  const [row, ...others] = panels;
  const first = others.slice(
    0,
    others.findIndex(({ type }) => type === 'row'),
  );
  expect(row).toMatchObject({ type: 'row', title: 'Overview', gridPos: { y: 0 } });
  expect(first.map(({ title, type }) => [title, type])).toEqual(
    ['State', 'Collectors up', 'Accepted', 'Refused', 'Backlog', 'Oldest span'].map((title) => [title, 'stat']),
  );
  expect(new Set(first.map(({ gridPos }) => gridPos.y))).toEqual(new Set([1]));
});

test('panels have ids of their own, and cover no other', () => {
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)} ${y + Math.floor(cell / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
  expect(panels.every(({ gridPos: { x, w } }) => x + w <= 24)).toBe(true);
});

test('its links lead to headings of docs/operations.md', () => {
  const headings = new Set(
    Array.from(read('docs/operations.md').matchAll(/^#+ (.+)$/gm), ([, heading]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\s-]/g, '')
        .replaceAll(' ', '-'),
    ),
  );
  const urls = [...dashboard.links, ...panels.flatMap(({ links = [] }) => links)].map(({ url }) => url);
  expect(urls.length).toBeGreaterThan(25);
  const page = 'https://github.com/graphql-hive/otel-collector/blob/main/docs/operations.md#';
  expect(urls.filter((url) => !url.startsWith(page) || !headings.has(url.slice(page.length)))).toEqual([]);
  expect(read('charts/hive-otel-collector/values.yaml')).toContain(`runbookUrl: ${page.slice(0, -1)}\n`);
});
