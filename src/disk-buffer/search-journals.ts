import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SearchJournal } from '../queue/block-queue.ts';
import type { SearchStep } from '../queue/search-step.ts';
import { syncDirectory, writeDurably } from '../runtime/durable-file.ts';

/*
 * The folder `refused-blocks` next to the ring
 *
 *   TOKEN.json   the steps of the search (row-search.ts) in the block with this token, as one list
 *
 * After the first split, some rows of the block may be in ClickHouse under other tokens. After a crash the search resumes from the
 * file, and the block is never sent as a whole again: if the table accepts it by then, those rows would be stored twice. Each step is
 * on the disk before the inserts that follow from it are sent. The file is removed after the block's record is marked as finished.
 */

const SUFFIX = '.json';

/** The journals of the ring with the path `ring`. */
export function journalsOf(ring: string): SearchJournals {
  return new SearchJournals(join(dirname(ring), 'refused-blocks'));
}

/** The journals of the searches in one ring's blocks. */
export class SearchJournals {
  private readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /**
   * Reads the recorded steps of a block; undefined if its search has not begun, or the file is damaged.
   * @throws Error when the file can't be read
   */
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

  /** Opens the journal of the block with this token. */
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

  /** Removes the journal of a finished block. */
  remove(token: string): void {
    rmSync(this.pathOf(token), { force: true });
  }

  /** Removes all journals except those of `tokens`. @throws Error when the folder can't be read */
  keepOnly(tokens: ReadonlySet<string>): void {
    if (!existsSync(this.dir)) return;
    for (const name of readdirSync(this.dir))
      if (!tokens.has(name.replace(/\.json(\.unfinished)?$/, ''))) rmSync(join(this.dir, name), { force: true });
  }

  private pathOf(token: string): string {
    return join(this.dir, `${token}${SUFFIX}`);
  }
}
