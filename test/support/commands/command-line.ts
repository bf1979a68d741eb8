import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';

/** The options of this command's line. Prints `usage` and exits on --help; exits with 2 on what it does not know. */
export function commandLine<const Options extends ParseArgsOptionsConfig>(usage: string, options: Options) {
  if (process.argv.some((argument) => argument === '--help' || argument === '-h')) {
    process.stdout.write(usage);
    process.exit(0);
  }
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return misused((error as Error).message);
  }
}

/** The number that an option was given. Exits with 2 if it is none, or not above zero. */
export function positive(flag: string, given: string): number {
  const number = Number(given);
  return number > 0 && Number.isFinite(number) ? number : misused(`${flag} is ${given}. Allowed: a number above 0.`);
}

/** Exits with 2. */
export function misused(message: string): never {
  process.stderr.write(`${message} See --help.\n`);
  process.exit(2);
}
