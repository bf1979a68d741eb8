import { globSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
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

test('no line of code or of a comment has more than 140 characters; oxfmt does not break texts', () => {
  const files = globSync(['.dependency-cruiser.js', '{src,test,bench,demo}/**/*.{ts,js,mjs}'], { cwd: fileURLToPath(file('')) });
  expect(files.length).toBeGreaterThan(400);
  const long = files
    .flatMap((path) => Array.from(read(path).split('\n'), (line, index) => ({ line, at: `${path}:${index + 1}` })))
    .filter(({ line }) => /^.{141}/u.test(line));
  expect(long.map(({ at }) => at)).toEqual([]);
});
