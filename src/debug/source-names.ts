import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapping } from 'node:module';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Frame } from './stack.ts';

/** How V8 names a function. Line and column count from 0; they are -1 for what is not JavaScript. */
export interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

/** Holds src/ and dist/. */
const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
/** Further right than any code: the last mapping of a line is of the statement that the line belongs to. */
const END_OF_LINE = 1_000_000;

/** Leads from the compiled functions, as V8 knows them, back to the TypeScript they come from. */
export class SourceNames {
  /** By path; undefined where there is none. Bounded by the number of the collector's own files. */
  private readonly maps = new Map<string, SourceMap | undefined>();

  /** @param line of the compiled file, from 1; without it, the one the function begins in */
  frame({ functionName, url, lineNumber, columnNumber }: CallFrame, line?: number): Frame {
    const path = url.startsWith('file:') ? fileURLToPath(url) : url;
    const begin = this.source(path, lineNumber, columnNumber);
    const at = line === undefined ? begin : this.source(path, line - 1, END_OF_LINE);
    return { name: qualified(functionName, begin), file: begin.file, startLine: begin.line, line: at.line };
  }

  private source(path: string, line: number, column: number): Place {
    // {} where nothing is mapped.
    const entry: Partial<SourceMapping> = (line < 0 ? undefined : this.mapOf(path)?.findEntry(line, column)) ?? {};
    if (entry.originalSource === undefined || entry.originalLine === undefined) return { file: short(path), line: line + 1 };
    return { file: short(resolve(dirname(path), entry.originalSource)), line: entry.originalLine + 1 };
  }

  private mapOf(path: string): SourceMap | undefined {
    if (!path.startsWith(PROJECT) || path.includes('/node_modules/') || !path.endsWith('.js')) return undefined;
    if (!this.maps.has(path)) this.maps.set(path, readMap(`${path}.map`));
    return this.maps.get(path);
  }
}

interface Place {
  readonly file: string;
  readonly line: number;
}

/** undefined without a map: a deployment may leave them out, and has the lines of dist/ then. */
function readMap(path: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(path, 'utf8')) as ConstructorParameters<typeof SourceMap>[0]);
  } catch {
    return undefined;
  }
}

/** As seen from the project, so that `go tool pprof -list` finds the sources in any checkout. */
function short(path: string): string {
  return path.startsWith(PROJECT) ? relative(PROJECT, path) : path;
}

function qualified(functionName: string, { file, line }: Place): string {
  const name = functionName || (line > 0 ? `(anonymous:${line})` : '(anonymous)');
  const module = file
    .replace(/^.*node_modules\//, '')
    .replace(/^(src|dist)\//, '')
    .replace(/\.[cm]?[jt]s$/, '');
  return module === '' ? name : `${module}.${name}`;
}
