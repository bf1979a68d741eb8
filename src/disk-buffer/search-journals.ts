import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SearchJournal } from '../queue/block-queue.ts';
import type { SearchStep } from '../queue/search-step.ts';
import { syncDirectory, writeDurably } from '../runtime/durable-file.ts';

/*
 * The folder `refused-blocks` beside the ring
 *
 *   TOKEN.json   what was found out of the block that is sent under this token (row-search.ts): steps, as one list
 *
 * From the first split on, some rows of the block may be in ClickHouse under tokens of their own. After a crash the search goes on
 * from the file, and the block is never sent as a whole again: the table may take it by then, and would have those rows twice.
 * Each step is on the disk before anything is sent because of it. The file goes when the record in the ring says that it is done.
 */

const SUFFIX = '.json';

/** The journals of the ring in this file. */
export function journalsBeside(ring: string): SearchJournals {
  return new SearchJournals(join(dirname(ring), 'refused-blocks'));
}

/** The journals of one ring. */
export class SearchJournals {
  private readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** What is known of a block by its token; undefined if its search was never begun, or the disk has damaged the file. */
  read(token: string): readonly SearchStep[] | undefined {
    const path = this.pathOf(token);
    if (!existsSync(path)) return undefined;
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as SearchStep[];
    } catch (error) {
      if (error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  /** The journal of a block that is sent under `token`. */
  open(token: string): SearchJournal {
    const steps = [...(this.read(token) ?? [])];
    return {
      steps,
      add: async (step) => {
        if (mkdirSync(this.dir, { recursive: true }) !== undefined) await syncDirectory(dirname(this.dir));
        await writeDurably(this.pathOf(token), `${JSON.stringify([...steps, step])}\n`);
        steps.push(step);
      },
    };
  }

  remove(token: string): void {
    rmSync(this.pathOf(token), { force: true });
  }

  /** Removes those of blocks that are not in the ring any more. @throws when the folder can't be read */
  keepOnly(tokens: ReadonlySet<string>): void {
    if (!existsSync(this.dir)) return;
    for (const name of readdirSync(this.dir))
      if (!tokens.has(name.replace(/\.json(\.unfinished)?$/, ''))) rmSync(join(this.dir, name), { force: true });
  }

  private pathOf(token: string): string {
    return join(this.dir, `${token}${SUFFIX}`);
  }
}
