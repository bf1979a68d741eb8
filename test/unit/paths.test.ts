import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

/* Files that code, scripts, comments and docs name exist. A wrong path in a command that no test starts would otherwise fail in use. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Missing before a build, an installation or a run. */
const GENERATED = /^(dist|node_modules|bench\/results|bench\/baselines\/dist)(\/|$)/;

const sources = globSync('{src,test,bench,demo}/**/*.ts', { cwd: ROOT });
const others = globSync(['package.json', '*.md', 'docs/*.md', 'charts/**/*.md', 'examples/**/*.md', '.github/**/*.yml'], { cwd: ROOT });
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const isMissing = (path: string) => !GENERATED.test(path) && !existsSync(join(ROOT, path));

/** The path in `new URL(…, import.meta.url)`, up to the end of the text or to the first `${`. */
const RELATIVE = /new URL\(\s*(['"`])([^'"`$]+)(\1|\$)[^)]*import\.meta\.url/g;
/** A path from the root, in a comment, an argument or a command line. */
const FROM_ROOT = /(?<![\w./*-])(?:src|test|bench|demo|docs|charts|examples)\/[\w./-]+\.(?:ts|js|mjs|json|md|ya?ml|html|sql|py|sh)\b/g;

/** What is wrong with a path that is relative to `file`; undefined if nothing is. A path of dots alone has to be the root. */
function faultOf(file: string, relative: string, isComplete: boolean): string | undefined {
  const path = join(dirname(file), relative);
  if (/^[./]+$/.test(relative)) return join(path, '/') === './' ? undefined : `${file}: ${relative} is ${path}, not the root`;
  return isMissing(isComplete ? path : dirname(`${path}x`)) ? `${file}: ${relative} does not exist` : undefined;
}

test('paths relative to a source file lead to something that exists', () => {
  const found = sources.flatMap((file) => Array.from(read(file).matchAll(RELATIVE), ([, , path, end]) => ({ file, path, end })));
  expect(found.length).toBeGreaterThan(30);
  expect(found.map(({ file, path, end }) => faultOf(file, path, end !== '$')).filter((fault) => fault !== undefined)).toEqual([]);
});

test('paths from the root lead to files that exist', () => {
  const found = [...sources, ...others].flatMap((file) => Array.from(read(file).matchAll(FROM_ROOT), ([path]) => ({ file, path })));
  expect(found.length).toBeGreaterThan(150);
  expect(found.filter(({ path }) => isMissing(path))).toEqual([]);
});
