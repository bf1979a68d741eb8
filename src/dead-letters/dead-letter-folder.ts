import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Config } from '../config/variables.ts';
import { makeDirectory, syncDirectory, writeDurably } from '../runtime/durable-file.ts';

/*
 * The folder of dead letters
 *
 *   TOKEN.native.zst   the block, exactly the bytes that ClickHouse refused
 *   TOKEN.json         its metadata (`DeadLetter`). It is written last: a dead letter exists if this file does
 */

/** The metadata of a block that ClickHouse refuses permanently. */
export interface DeadLetter {
  /** The deduplication token of its insert and of its replay. It begins with the id of its queue. */
  readonly token: string;
  /** Its sequence in that queue. */
  readonly sequence: number;
  readonly rows: number;
  /** ClickHouse's exception code. */
  readonly code: string;
  readonly reason: string;
  readonly query: string;
  /** The server that refused it (`Endpoint.deduplicationDomain`). */
  readonly server: string;
  /** ISO 8601. */
  readonly refusedAt: string;
}

/** The absolute path of the dead letters' folder in a configuration. */
export function deadLettersDir({ DEAD_LETTERS_DIR, DISK_BUFFER_DIR }: Pick<Config, 'DEAD_LETTERS_DIR' | 'DISK_BUFFER_DIR'>): string {
  return resolve(DEAD_LETTERS_DIR === '' ? join(DISK_BUFFER_DIR, 'dead-letters') : DEAD_LETTERS_DIR);
}

/** The dead letters in a directory. Other processes, a collector or the command line, may add and remove some at the same time. */
export class DeadLetterFolder {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** The number of dead letters, and the size of all files. @throws Error when the folder can't be read */
  async usage(): Promise<{ count: number; bytes: number }> {
    const names = await this.names();
    const sizes = await Promise.all(names.map((name) => stat(join(this.dir, name)).then(({ size }) => size, absent(0))));
    return { count: names.filter(isDeadLetter).length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
  }

  /**
   * Reads all dead letters, oldest first.
   * @param onOther called with the name of each JSON file that is no dead letter
   * @throws Error when the folder can't be read
   */
  async list(onOther: (name: string) => void = () => {}): Promise<DeadLetter[]> {
    const deadLetters: DeadLetter[] = [];
    for (const name of (await this.names()).filter(isDeadLetter)) {
      const deadLetter = await this.read(name.slice(0, -SUFFIX.length));
      if (deadLetter === undefined) onOther(name);
      else deadLetters.push(deadLetter);
    }
    return deadLetters.toSorted((a, b) => (`${a.refusedAt} ${a.token}` < `${b.refusedAt} ${b.token}` ? -1 : 1));
  }

  /** Reads a dead letter; undefined if there is none with this token. @throws Error when its file can't be read */
  async read(token: string): Promise<DeadLetter | undefined> {
    const text = await readFile(this.pathOf(token, SUFFIX), 'utf8').catch(absent('{}'));
    const deadLetter = parsed(text);
    return deadLetter?.token === token ? deadLetter : undefined;
  }

  /** Reads the block of a dead letter, a zstd frame. @throws Error when there is none, or it can't be read */
  block(token: string): Promise<Buffer> {
    return readFile(this.pathOf(token, BLOCK_SUFFIX));
  }

  /** Writes a dead letter, and resolves when it is on the disk. One with the same token, so with the same block, is replaced. */
  async write(deadLetter: DeadLetter, block: Uint8Array): Promise<void> {
    if (makeDirectory(this.dir)) await syncDirectory(dirname(this.dir));
    await writeDurably(this.pathOf(deadLetter.token, BLOCK_SUFFIX), block);
    await writeDurably(this.pathOf(deadLetter.token, SUFFIX), `${JSON.stringify(deadLetter, undefined, 2)}\n`);
  }

  /** Removes a dead letter, and resolves when it is gone from the disk. */
  async remove(token: string): Promise<void> {
    await rm(this.pathOf(token, SUFFIX), { force: true });
    await rm(this.pathOf(token, BLOCK_SUFFIX), { force: true });
    await syncDirectory(this.dir);
  }

  private names(): Promise<string[]> {
    return readdir(this.dir).catch(absent([]));
  }

  private pathOf(token: string, suffix: string): string {
    return join(this.dir, `${token}${suffix}`);
  }
}

const SUFFIX = '.json';
const BLOCK_SUFFIX = '.native.zst';

function isDeadLetter(name: string): boolean {
  return name.endsWith(SUFFIX);
}

function parsed(text: string): DeadLetter | undefined {
  try {
    return JSON.parse(text) as DeadLetter;
  } catch {
    return undefined;
  }
}

/** A handler for errors of the file system: gives `value` for a missing file, and throws all others. */
function absent<T>(value: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT') return value;
    throw error;
  };
}
