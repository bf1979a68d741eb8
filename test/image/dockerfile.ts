import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

export interface Instruction {
  readonly keyword: string;
  readonly rest: string;
}

/** The instructions of a Dockerfile, by the name of their stage; the last stage is `final`. */
export function readStages(path: string): ReadonlyMap<string, readonly Instruction[]> {
  const text = readFileSync(path, 'utf8')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll('\\\n', '');
  const stages = new Map<string, Instruction[]>();
  let stage: Instruction[] = [];
  for (const line of text.split('\n').filter(Boolean)) {
    const [, keyword, rest] = /^(\w+)\s+(.*)$/.exec(line)!;
    if (keyword === 'FROM') stages.set(/ AS (\w+)$/.exec(rest)?.[1] ?? 'final', (stage = []));
    stage.push({ keyword, rest });
  }
  return stages;
}

/** Carries out the COPY and RUN of a stage in `dir`, which stands for its WORKDIR. @throws when a step fails */
export function runStage(stage: readonly Instruction[], context: string, dir: string): void {
  mkdirSync(dir, { recursive: true });
  for (const { keyword, rest } of stage) {
    if (keyword === 'COPY') copy(rest, context, dir);
    if (keyword === 'RUN') execFileSync('sh', ['-ec', rest], { cwd: dir, stdio: ['ignore', 'ignore', 'inherit'] });
  }
}

/** Copies what the last stage takes from the context and from the folders of the stages before. */
export function assemble(
  final: readonly Instruction[],
  context: string,
  stages: Readonly<Record<string, { workdir: string; dir: string }>>,
  dir: string,
): void {
  mkdirSync(dir, { recursive: true });
  for (const { rest } of final.filter(({ keyword }) => keyword === 'COPY')) {
    const [, from, paths] = /^(?:--from=(\w+) )?(.*)$/.exec(rest)!;
    if (from === undefined) copy(paths, context, dir);
    else if (from in stages) copy(paths.replaceAll(`${stages[from].workdir}/`, ''), stages[from].dir, dir);
  }
}

/** `COPY a b ./` or `COPY a b`. */
function copy(paths: string, from: string, to: string): void {
  const sources = paths.split(' ');
  const target = sources.pop()!;
  for (const source of sources)
    cpSync(join(from, source), join(to, target, target.endsWith('/') ? basename(source) : ''), { recursive: true });
}

/** ENV of a stage. */
export function environment(stage: readonly Instruction[]): Record<string, string> {
  return Object.fromEntries(stage.filter(({ keyword }) => keyword === 'ENV').map(({ rest }) => rest.split('=', 2)));
}

/** The words of an instruction in exec form. */
export function execForm(stage: readonly Instruction[], keyword: string): string[] {
  const { rest } = stage.find((instruction) => instruction.keyword === keyword)!;
  return JSON.parse(rest.slice(rest.indexOf('['))) as string[];
}
