import { readFileSync } from 'node:fs';
import { writeDurably } from '../runtime/durable-file.ts';

/** A record holds the number in one byte, where 0 means none. */
const MAX_NAMES = 255;

/**
 * The file `servers` next to the ring: one line for each server that an insert was ever sent to (`Endpoint.deduplicationDomain`).
 * Records hold the number of the line. After a crash, an insert is sent again to the same server, which may have stored it.
 */
export class ServerNames {
  private readonly path: string;
  private names: readonly string[];
  private lastWrite: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.path = path;
    this.names = read(path);
  }

  /** The number of a server, from 1; 0 if it has none yet. */
  numberOf(name: string): number {
    return this.names.indexOf(name) + 1;
  }

  /**
   * Gives a server a number. Resolves when the number is on the disk; with 0 if there are 255 already or the disk fails: the insert
   * is then sent nevertheless, as its spans are safer in ClickHouse.
   */
  async newNumberOf(name: string): Promise<number> {
    this.lastWrite = this.lastWrite.then(() => this.add(name)).catch(() => {});
    await this.lastWrite;
    return this.numberOf(name);
  }

  /** The server with this number; undefined for 0. */
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
