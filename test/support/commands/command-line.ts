import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';

/** Parses the options of this command. Prints `usage` and exits for --help; exits with code 2 for an unknown option. */
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

/** The value of the option `flag` as a number. Exits with code 2 unless it is above 0. */
export function positive(flag: string, given: string): number {
  const number = Number(given);
  return number > 0 && Number.isFinite(number) ? number : misused(`${flag} is ${given}. Allowed: a number above 0.`);
}

/** Prints what is wrong with the command line, and exits with code 2. */
export function misused(message: string): never {
  process.stderr.write(`${message} See --help.\n`);
  process.exit(2);
}
