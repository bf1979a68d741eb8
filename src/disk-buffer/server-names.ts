import { readFileSync } from 'node:fs';
import { writeDurably } from '../runtime/durable-file.ts';

/** What a byte in a record can tell apart, 0 aside. */
const MAX_NAMES = 255;

/**
 * The file `servers` beside the ring: a line for each server that an insert was ever sent to. Records hold the number of
 * the line, so that after a crash an insert goes to the server again that may have it already.
 */
export class ServerNames {
  private readonly path: string;
  private names: readonly string[];
  private lastWrite: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.path = path;
    this.names = read(path);
  }

  /** The number of a server; 0 if it has none yet. */
  numberOf(name: string): number {
    return this.names.indexOf(name) + 1;
  }

  /** Gives a server a number, which is on the disk when this resolves. 0 if there are too many, or the disk fails: the spans are better off in ClickHouse all the same. */
  async newNumberOf(name: string): Promise<number> {
    this.lastWrite = this.lastWrite.then(() => this.add(name)).catch(() => {});
    await this.lastWrite;
    return this.numberOf(name);
  }

  /** Undefined for 0. */
  nameOf(number: number): string | undefined {
    return this.names[number - 1];
  }

  private async add(name: string): Promise<void> {
    if (this.names.includes(name) || this.names.length === MAX_NAMES) return;
    const names = [...this.names, name];
    await writeDurably(this.path, `${names.join('\n')}\n`);
    this.names = names;
  }
}

function read(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
