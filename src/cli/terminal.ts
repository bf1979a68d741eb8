import { writeSync } from 'node:fs';
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';

/** A command line that can't be followed. The message is for the operator. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The options and arguments of a command line, `--help` among them. @throws UsageError */
export function parseCommandLine<const Options extends ParseArgsOptionsConfig>(args: readonly string[], options: Options) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h', default: false }, ...options },
    });
  } catch (error) {
    // Node goes on with how to pass an argument that looks like an option.
    throw new UsageError(`${(error as Error).message.split('. ', 1)[0]}; see --help.`);
  }
}

/** The options of a program that is set up by its environment: `--help`, `-h` and `--version`. @throws UsageError for any other argument */
export function parseProgramOptions(args: readonly string[]): { readonly help: boolean; readonly version: boolean } {
  try {
    return parseArgs({
      args: [...args],
      options: { help: { type: 'boolean', short: 'h', default: false }, version: { type: 'boolean', default: false } },
    }).values;
  } catch {
    throw new UsageError(
      `${args.join(' ')}: there are no arguments but --help and --version. Settings are environment variables, as PORT=4318; see --help.`,
    );
  }
}

/** To standard output, at once: the process may end right after, and a pipe may be slow. */
export function print(text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(process.stdout.fd, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  }
}

/** A line to standard error. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** `1 span`, `2 spans`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

export function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}
