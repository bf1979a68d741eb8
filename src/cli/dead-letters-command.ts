import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { loadConfig } from '../config/load-config.ts';
import { DeadLetterFolder, deadLettersDir, type DeadLetter } from '../dead-letters/dead-letter-folder.ts';
import { replay } from './dead-letters-replay.ts';
import { writeNativeExport } from './native-export.ts';
import { readNativeBlocks } from './native-reader.ts';
import { otlpLines } from './otlp-export.ts';
import { count, note, parseCommandLine, print, size, UsageError } from './terminal.ts';

const HELP = `Dead letters: blocks of acknowledged spans that ClickHouse permanently rejects. The collector may be running or not.

npm run dead-letters -- list
    Prints one line per dead letter, oldest first.

npm run dead-letters -- show TOKEN
    Prints the details of one dead letter, and its trace ids.

npm run dead-letters -- replay [TOKEN...]
    Inserts these dead letters, or all, into ClickHouse, and removes those that are stored. The environment names the server
    as for the collector (CLICKHOUSE_URL and so on). Inserts are deduplicated by token, so the command can be repeated.
    Exit code 1 if any dead letter remains.

npm run dead-letters -- export [TOKEN...] --format native --out DIR
    Writes one file per dead letter (ClickHouse's Native format, zstd), and replay.sh, which inserts them with curl.

npm run dead-letters -- export [TOKEN...] --format otlp [--out FILE]
    Writes OTLP/JSON, one ExportTraceServiceRequest per line, to standard output or FILE. All attributes become text.

The folder is --dir DIR, or DEAD_LETTERS_DIR, or dead-letters in DISK_BUFFER_DIR.
`;

/** The most trace ids that `show` prints. */
const TRACES_SHOWN = 20;

interface CommandLine {
  readonly command: string;
  readonly tokens: readonly string[];
  readonly dir: string;
  readonly format: string;
  readonly out: string | undefined;
}

/**
 * Runs a command line and returns the exit code: 1 if `replay` leaves a dead letter, else 0.
 * @throws UsageError, ConfigError, or ReplayError when ClickHouse is not available
 */
export async function runDeadLetters(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const line = parse(args, env);
  if (line === undefined) {
    print(HELP);
    return 0;
  }
  const folder = new DeadLetterFolder(line.dir);
  switch (line.command) {
    case 'list':
      return list(folder);
    case 'show':
      return await show(folder, await chosen(folder, line));
    case 'replay':
      return await replayAll(folder, await chosen(folder, line), env);
    case 'export':
      return await exportAll(folder, await chosen(folder, line), line);
    default:
      throw new UsageError(`Unknown command: ${line.command}. Commands: list, show, replay, export; see --help.`);
  }
}

function parse(args: readonly string[], env: NodeJS.ProcessEnv): CommandLine | undefined {
  const { values, positionals } = parseCommandLine(args, {
    dir: { type: 'string' },
    format: { type: 'string', default: 'native' },
    out: { type: 'string' },
  });
  const [command, ...tokens] = positionals;
  if (values.help || command === undefined) return undefined;
  const { DEAD_LETTERS_DIR = '', DISK_BUFFER_DIR = 'disk-buffer' } = env;
  return {
    command,
    tokens,
    dir: values.dir ?? deadLettersDir({ DEAD_LETTERS_DIR, DISK_BUFFER_DIR }),
    format: values.format,
    out: values.out,
  };
}

/** The dead letters that the command line names; all if it names none. @throws UsageError for an unknown token */
async function chosen(folder: DeadLetterFolder, { tokens }: CommandLine): Promise<readonly DeadLetter[]> {
  const deadLetters = await folder.list(noteOther);
  const unknown = tokens.find((token) => deadLetters.every((deadLetter) => deadLetter.token !== token));
  if (unknown !== undefined) throw new UsageError(`There is no dead letter ${unknown} in ${folder.dir}.`);
  return tokens.length === 0 ? deadLetters : deadLetters.filter(({ token }) => tokens.includes(token));
}

function noteOther(name: string): void {
  note(`${name} is not a dead letter and is skipped`);
}

async function list(folder: DeadLetterFolder): Promise<number> {
  for (const { refusedAt, token, rows, code, reason } of await folder.list(noteOther))
    print(`${refusedAt} ${token} ${count(rows, 'span')} ${code} ${firstLine(reason)}\n`);
  const usage = await folder.usage();
  note(`${count(usage.count, 'dead letter')}, ${size(usage.bytes)}, in ${folder.dir}`);
  return 0;
}

async function show(folder: DeadLetterFolder, deadLetters: readonly DeadLetter[]): Promise<number> {
  if (deadLetters.length !== 1) throw new UsageError('show needs the token of one dead letter; see list.');
  const [deadLetter] = deadLetters;
  print(`${JSON.stringify(deadLetter, undefined, 2)}\n`);
  const block = await folder.block(deadLetter.token);
  print(`${size(block.length)}; ${contents(block)}\n`);
  return 0;
}

function contents(block: Buffer): string {
  try {
    const ids = readNativeBlocks(zstdDecompressSync(block)).flatMap(({ columns }) => (columns.get('TraceId') ?? []) as readonly string[]);
    const traces = [...new Set(ids)];
    const more = traces.length > TRACES_SHOWN ? `, and ${traces.length - TRACES_SHOWN} more` : '';
    return `traces ${traces.slice(0, TRACES_SHOWN).join(', ')}${more}`;
  } catch (error) {
    return `it can't be read: ${(error as Error).message}`;
  }
}

async function replayAll(folder: DeadLetterFolder, deadLetters: readonly DeadLetter[], env: NodeJS.ProcessEnv): Promise<number> {
  // Authentication does not matter here, so its settings are not required.
  const config = loadConfig({ DISABLE_AUTH: 'true', ...env });
  let stored = 0;
  await replay(config, folder, deadLetters, ({ token, rows }, outcome) => {
    if (outcome.status === 'inserted') {
      stored++;
      print(`${token} is stored: ${count(rows, 'span')}\n`);
    } else {
      print(`${token} is rejected again: ${firstLine(outcome.error.message)}\n`);
    }
  });
  note(`${stored} of ${count(deadLetters.length, 'dead letter')} stored`);
  return stored === deadLetters.length ? 0 : 1;
}

async function exportAll(folder: DeadLetterFolder, deadLetters: readonly DeadLetter[], { format, out }: CommandLine): Promise<number> {
  if (format !== 'native' && format !== 'otlp') throw new UsageError(`--format is ${format}. Allowed: native, otlp.`);
  if (format === 'native') {
    if (out === undefined) throw new UsageError('export --format native needs --out, a directory for its files; see --help.');
    writeNativeExport(
      await Promise.all(deadLetters.map(async ({ token, rows }) => ({ token, rows, frames: [await folder.block(token)] }))),
      out,
    );
    note(
      `${count(deadLetters.length, 'dead letter')} in ${resolve(out)}. To send them:\n\n` +
        `  CLICKHOUSE_URL=http://clickhouse:8123 ${resolve(out)}/replay.sh\n`,
    );
    return 0;
  }
  const lines: string[] = [];
  for (const { token } of deadLetters)
    lines.push(...otlpLines(await folder.block(token), (reason) => note(`${token} is skipped: ${reason}`)));
  if (out === undefined) for (const line of lines) print(line);
  else writeFileSync(out, lines.join(''));
  return 0;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0];
}
