import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

/* Links within the repository lead to files and headings that are there. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const pages = globSync(['*.md', 'docs/*.md', 'charts/**/*.md', 'examples/**/*.md'], { cwd: ROOT });

/** Without what is quoted as code: links are not read there, and a comment of a script is no heading. */
function prose(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8').replaceAll(/^```[^]*?^```/gm, '');
}

/** As GitHub makes them: lower case, hyphens for spaces, no other punctuation; the second of the same name gets a number. */
function anchorsOf(path: string): Set<string> {
  const seen = new Map<string, number>();
  const anchors = Array.from(prose(path).matchAll(/^#+ (.+)$/gm), ([, heading]) => {
    const anchor = heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-');
    const times = seen.get(anchor) ?? 0;
    seen.set(anchor, times + 1);
    return times === 0 ? anchor : `${anchor}-${times}`;
  });
  return new Set(anchors);
}

/** Why a link leads nowhere; undefined if it leads somewhere. */
function fault(page: string, link: string): string | undefined {
  const [file, anchor] = link.split('#');
  const path = file === '' ? page : join(dirname(page), decodeURI(file));
  if (!existsSync(join(ROOT, path))) return `${link}: there is no ${path}`;
  return anchor === undefined || anchorsOf(path).has(anchor) ? undefined : `${link}: ${path} has no such heading`;
}

test('there are pages to check', () => {
  expect(pages).toEqual(expect.arrayContaining(['README.md', 'CONTRIBUTING.md', 'docs/operations.md']));
});

test.each(pages)('the links of %s lead somewhere', (page) => {
  const links = Array.from(prose(page).matchAll(/\]\(([^)\s]+)[^)]*\)/g), ([, link]) => link).filter((link) => !/^[a-z]+:/i.test(link));
  expect(links.map((link) => fault(page, link)).filter((found) => found !== undefined)).toEqual([]);
});
