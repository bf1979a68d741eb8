import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { SearchJournal } from '../batch/block-queue.ts';
import type { SearchStep } from '../batch/row-search.ts';
import { writeDurably } from './durable-file.ts';

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

/** The journals of one ring. */
export class SearchJournals {
  private readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** What is known of a block by its token; undefined if it was never begun to be searched. */
  read(token: string): readonly SearchStep[] | undefined {
    const path = this.pathOf(token);
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as SearchStep[]) : undefined;
  }

  /** The journal of a block that is sent under `token`. */
  open(token: string): SearchJournal {
    const steps = [...(this.read(token) ?? [])];
    return {
      steps,
      add: async (step) => {
        mkdirSync(this.dir, { recursive: true });
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
    for (const name of readdirSync(this.dir)) if (!tokens.has(name.replace(/\.json(\.unfinished)?$/, ''))) rmSync(join(this.dir, name), { force: true });
  }

  private pathOf(token: string): string {
    return join(this.dir, `${token}${SUFFIX}`);
  }
}
