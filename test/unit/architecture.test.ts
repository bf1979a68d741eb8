import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const file = (path: string) => new URL(`../../${path}`, import.meta.url);
const { FOLDERS } = (await import(file('.dependency-cruiser.js').href)) as { FOLDERS: readonly string[] };
const read = (path: string) => readFileSync(file(path), 'utf8');

test('the picture of docs/architecture.md shows the folders of src/ in the order of their imports', () => {
  const [, picture] = /## Folders\n[^`]*[^]*?```\n([^]*?)\n```/.exec(read('docs/architecture.md')) ?? [];
  expect(picture.split('\n').map((line) => line.split(' ', 1)[0])).toEqual(['(src/)', ...FOLDERS]);
});

test('each folder of src/ has its place in the order, and a line in CONTRIBUTING.md', () => {
  const folders = readdirSync(file('src/'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(new Set(folders.map(({ name }) => name))).toEqual(new Set(FOLDERS));
  const lines = read('CONTRIBUTING.md').match(/(?<=^\| `src\/)[a-z-]+(?=\/` \|)/gm);
  expect(lines).toEqual(FOLDERS);
});
