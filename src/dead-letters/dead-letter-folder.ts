import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Config } from '../config/variables.ts';
import { makeDirectory, syncDirectory, writeDurably } from '../runtime/durable-file.ts';

/*
 * The folder of dead letters
 *
 *   TOKEN.native.zst   the block, byte for byte as ClickHouse has refused it
 *   TOKEN.json         what is known of it; written last: without it there is no letter
 */

/** A block that ClickHouse refuses for good, and why. */
export interface DeadLetter {
  /** The deduplication token it was sent under, and is replayed under. It begins with the id of the queue it was in. */
  readonly token: string;
  /** Its number in that queue. */
  readonly sequence: number;
  readonly rows: number;
  /** ClickHouse's exception code. */
  readonly code: string;
  readonly reason: string;
  readonly query: string;
  /** Who has refused it (`Endpoint.deduplicationDomain`). */
  readonly server: string;
  /** ISO 8601. */
  readonly refusedAt: string;
}

/** Where a collector of this configuration keeps them. */
export function deadLettersDir({ DEAD_LETTERS_DIR, DISK_BUFFER_DIR }: Pick<Config, 'DEAD_LETTERS_DIR' | 'DISK_BUFFER_DIR'>): string {
  return resolve(DEAD_LETTERS_DIR === '' ? join(DISK_BUFFER_DIR, 'dead-letters') : DEAD_LETTERS_DIR);
}

/** The letters in a directory. Others may add and remove some at the same time: a collector, the tools. */
export class DeadLetterFolder {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** How many there are, and the bytes of all files. */
  async usage(): Promise<{ letters: number; bytes: number }> {
    const names = await this.names();
    const sizes = await Promise.all(names.map((name) => stat(join(this.dir, name)).then(({ size }) => size, absent(0))));
    return { letters: names.filter(isLetter).length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
  }

  /** Oldest first. @param onOther told of a file that is in the way of a letter's, and is none */
  async list(onOther: (name: string) => void = () => {}): Promise<DeadLetter[]> {
    const letters: DeadLetter[] = [];
    for (const name of (await this.names()).filter(isLetter)) {
      const letter = await this.read(name.slice(0, -SUFFIX.length));
      if (letter === undefined) onOther(name);
      else letters.push(letter);
    }
    return letters.toSorted((a, b) => (`${a.refusedAt} ${a.token}` < `${b.refusedAt} ${b.token}` ? -1 : 1));
  }

  /** Undefined if there is no letter of this token, whatever else may be in its place. */
  async read(token: string): Promise<DeadLetter | undefined> {
    const text = await readFile(this.pathOf(token, SUFFIX), 'utf8').catch(absent('{}'));
    const letter = parsed(text);
    return letter?.token === token ? letter : undefined;
  }

  block(token: string): Promise<Buffer> {
    return readFile(this.pathOf(token, BLOCK_SUFFIX));
  }

  /** When it resolves, the letter is on the disk. One of the same token is written over: it holds the same block. */
  async write(letter: DeadLetter, block: Uint8Array): Promise<void> {
    if (makeDirectory(this.dir)) await syncDirectory(dirname(this.dir));
    await writeDurably(this.pathOf(letter.token, BLOCK_SUFFIX), block);
    await writeDurably(this.pathOf(letter.token, SUFFIX), `${JSON.stringify(letter, undefined, 2)}\n`);
  }

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

function isLetter(name: string): boolean {
  return name.endsWith(SUFFIX);
}

function parsed(text: string): DeadLetter | undefined {
  try {
    return JSON.parse(text) as DeadLetter;
  } catch {
    return undefined;
  }
}

/** What a file that is not there counts as. */
function absent<T>(value: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT') return value;
    throw error;
  };
}
