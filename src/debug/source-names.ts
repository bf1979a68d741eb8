import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapping } from 'node:module';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Frame } from './stack.ts';

/** A function as V8 names it. Line and column count from 0; they are -1 for code that is not JavaScript. */
export interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

/** The project's root, which contains src/ and dist/. */
const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
/** A column beyond any code: it selects the last mapping of a line, that of the statement which the line belongs to. */
const END_OF_LINE = 1_000_000;

/** Maps compiled functions, as V8 names them, to their TypeScript sources. */
export class SourceNames {
  /** Source maps by path; undefined for files without one. Bounded by the number of the collector's own files. */
  private readonly maps = new Map<string, SourceMap | undefined>();

  /** The frame of a function. @param line line of the compiled file, from 1; by default that of the function's beginning */
  frame({ functionName, url, lineNumber, columnNumber }: CallFrame, line?: number): Frame {
    const path = url.startsWith('file:') ? fileURLToPath(url) : url;
    const begin = this.source(path, lineNumber, columnNumber);
    const at = line === undefined ? begin : this.source(path, line - 1, END_OF_LINE);
    return { name: qualified(functionName, begin), file: begin.file, startLine: begin.line, line: at.line };
  }

  private source(path: string, line: number, column: number): SourceLine {
    // findEntry returns {} if there is no mapping.
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

interface SourceLine {
  readonly file: string;
  readonly line: number;
}

/** Reads a source map; undefined if there is none: frames then have the lines of dist/. */
function readMap(path: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(path, 'utf8')) as ConstructorParameters<typeof SourceMap>[0]);
  } catch {
    return undefined;
  }
}

/** The path relative to the project: `go tool pprof -list` then finds the sources in any checkout. */
function short(path: string): string {
  return path.startsWith(PROJECT) ? relative(PROJECT, path) : path;
}

/** A function's name with its module, as in Go: `disk-buffer/ring.append`. */
function qualified(functionName: string, { file, line }: SourceLine): string {
  const name = functionName || (line > 0 ? `(anonymous:${line})` : '(anonymous)');
  const module = file
    .replace(/^.*node_modules\//, '')
    .replace(/^(src|dist)\//, '')
    .replace(/\.[cm]?[jt]s$/, '');
  return module === '' ? name : `${module}.${name}`;
}
