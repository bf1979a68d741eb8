import { writeSync } from 'node:fs';
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';

/** An invalid command line. The message is for the operator. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Parses the options and arguments of a command line; `--help` is added to the options. @throws UsageError */
export function parseCommandLine<const Options extends ParseArgsOptionsConfig>(args: readonly string[], options: Options) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h', default: false }, ...options },
    });
  } catch (error) {
    // Only the first sentence: the next explains how to pass an argument that looks like an option.
    throw new UsageError(`${(error as Error).message.split('. ', 1)[0]}; see --help.`);
  }
}

/** Parses the options of a program that is configured by its environment: `--help`, `-h`, `--version`. @throws UsageError for others */
export function parseProgramOptions(args: readonly string[]): { readonly help: boolean; readonly version: boolean } {
  try {
    return parseArgs({
      args: [...args],
      options: { help: { type: 'boolean', short: 'h', default: false }, version: { type: 'boolean', default: false } },
    }).values;
  } catch {
    throw new UsageError(
      `${args.join(' ')} is not an argument: there are only --help and --version. ` +
        'Settings are environment variables, such as PORT=4318; see --help.',
    );
  }
}

/** Writes to standard output, synchronously: the process may exit right afterwards, and a pipe may be slow. */
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

/** Writes a line to standard error. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** A number with its noun, in the singular or plural: `1 span`, `2 spans`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/** A size in B, KB or MB of 1024: `1.5 MB`. */
export function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}
