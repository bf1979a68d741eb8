import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { variables } from '../config/variables.ts';
import { DiskBufferError } from '../disk-buffer/disk-buffer-error.ts';
import { Kind, recordBytes, type RecordHeader, State } from '../disk-buffer/record.ts';
import { RingImage, ringPath, type PendingBlock } from '../disk-buffer/ring-image.ts';
import { resizeRing } from '../disk-buffer/resize.ts';
import { journalsOf } from '../disk-buffer/search-journals.ts';
import { SUPERBLOCK_BYTES } from '../disk-buffer/superblock.ts';
import { writeNativeExport } from './native-export.ts';
import { otlpLines } from './otlp-export.ts';
import { pendingInserts } from './ring-export.ts';
import { count, note, parseCommandLine, print, size, UsageError } from './terminal.ts';

const HELP = `Inspects, checks, exports and resizes a disk buffer, also without a running collector. Only resize changes the file. The other
commands read the whole file into memory: 1 GB for a file of 1 GB.

npm run ring -- inspect DIR [--records]
    Prints superblocks, records by state, inserts in flight, and damage. --records: one line per record.

npm run ring -- verify DIR
    Checks all checksums and zstd frames. Prints one line per problem, with its offset. Exit code 1 if there is a problem.

npm run ring -- export DIR --format native --out DIR2
    Writes all spans that may not be in ClickHouse yet: one file per insert (ClickHouse's Native format, zstd), and replay.sh,
    which inserts them with curl. Inserts are deduplicated by token, so replay.sh can be repeated.

npm run ring -- export DIR --format otlp [--out FILE]
    Writes the same spans as OTLP/JSON, one ExportTraceServiceRequest per line, to standard output or FILE. All attributes
    become text. If you send them to a collector, spans that are already in ClickHouse are stored again: prefer native.

npm run ring -- resize DIR --size-mb N [--or-keep]
    Changes the size of the file and keeps its spans. No collector may be running on it. If interrupted, either the old file
    is unchanged or the new one is complete. --or-keep: exit code 0 even if the file can't be resized; standard error has the
    reason.

DIR is the collector's DISK_BUFFER_DIR. A collector that starts on it sends its spans. Either start one, or export and
replay; doing both stores spans twice.
`;

const STATE_NAMES = Object.entries(State);

/**
 * Runs a command line and returns the exit code: 1 if `verify` finds a problem, else 0.
 * @throws UsageError, or DiskBufferError when there is no ring to read
 */
export function runRing(args: readonly string[]): number {
  const { values, positionals } = parseCommandLine(args, {
    records: { type: 'boolean', default: false },
    format: { type: 'string', default: 'native' },
    out: { type: 'string' },
    'size-mb': { type: 'string' },
    'or-keep': { type: 'boolean', default: false },
  });
  if (values.help || args.length === 0) {
    print(HELP);
    return 0;
  }
  const [command, dir, ...rest] = positionals;
  if (!['inspect', 'verify', 'export', 'resize'].includes(command)) {
    throw new UsageError(`Unknown command: ${command}. Commands: inspect, verify, export, resize; see --help.`);
  }
  if (dir === undefined) throw new UsageError(`${command} needs the directory of the disk buffer; see --help.`);
  if (rest.length > 0) throw new UsageError(`Unexpected argument: ${rest[0]}; see --help.`);
  if (command === 'export') return runExport(dir, values.format, values.out);
  if (command === 'resize') return resize(dir, values['size-mb'], values['or-keep']);
  const image = new RingImage(dir);
  return command === 'inspect' ? inspect(image, values.records) : verify(image);
}

function resize(dir: string, megabytes: string | undefined, orKeep: boolean): number {
  if (megabytes === undefined || !variables.DISK_BUFFER_MAX_SIZE_MB.schema.safeParse(megabytes).success) {
    throw new UsageError(`resize needs --size-mb, ${variables.DISK_BUFFER_MAX_SIZE_MB.allowed}; see --help.`);
  }
  const toBytes = Number(megabytes) * 1024 ** 2;
  try {
    const path = ringPath(dir);
    const { fromBytes, spans } = resizeRing(path, toBytes);
    const kept = spans === 0 ? '' : `, with ${count(spans, 'span')} in it`;
    print(
      `${path} ${fromBytes === toBytes ? `has ${megabytes} MB already` : `had ${size(fromBytes)}, and has ${megabytes} MB now${kept}`}\n`,
    );
  } catch (error) {
    if (!orKeep || !(error instanceof DiskBufferError)) throw error;
    note(error.message);
  }
  return 0;
}

function inspect(image: RingImage, withRecords: boolean): number {
  const { path, fileBytes, newest, superblocks, format } = image;
  const { records, tailOffset, headOffset, nextSequence, damage } = image.log;
  print(`${path}: ${size(fileBytes)}${fileBytes < newest.fileBytes ? `, truncated: it had ${size(newest.fileBytes)}` : ''}\n`);
  warnIfHeld(image);
  print(`ring ${image.ringId}\n`);
  superblocks.forEach((reading, index) => {
    if (reading.status === 'foreign') print(`superblock ${index}: format version ${reading.version}, which this collector can't read\n`);
    else if (reading.status === 'damaged') print(`superblock ${index}: damaged\n`);
    else
      print(
        `superblock ${index}: generation ${reading.superblock.generation}, ` +
          `tail at ${reading.superblock.tailOffset}, sequence ${reading.superblock.tailSequence}\n`,
      );
  });
  const usedBytes = records.reduce((sum, { payloadLength }) => sum + recordBytes(payloadLength), 0);
  print(
    `tail at ${tailOffset}, head at ${headOffset}, next sequence ${nextSequence}; ` +
      `${size(usedBytes)} of ${size(image.capacityBytes)} in use\n`,
  );

  print('\nrecords\n');
  for (const [name, state] of STATE_NAMES)
    print(`  ${name.padEnd(9)} ${sums(image.blocks.filter(({ offset }) => format.state(offset) === state))}\n`);
  print(`  padding   ${count(records.filter(({ kind }) => kind === Kind.padding).length, 'record')}\n`);
  const { pending } = image;
  if (pending.length > 0) print(`  oldest not inserted: ${age(pending[0].header)}\n`);

  print('\ninserts in flight\n');
  const underWay = Map.groupBy(
    pending.filter(({ token }) => token !== undefined),
    ({ token }) => token!,
  );
  for (const [token, blocks] of underWay) {
    const { first, last } = format.insertOf(blocks[0].header.offset)!;
    print(`  ${first}-${last}: ${sums(blocks.map(({ header }) => header))}, token ${token}\n`);
  }
  if (underWay.size === 0) print('  none\n');

  print('\ndamage\n');
  for (const { offset, records: lost, reason } of damage) print(`  at ${offset}: ${count(lost, 'record')} lost (${reason})\n`);
  if (damage.length === 0) print('  none\n');

  if (withRecords) {
    print('\noffset sequence state bytes spans written\n');
    for (const header of records)
      print(`${header.offset} ${header.sequence} ${stateOf(image, header)} ${header.payloadLength} ${header.rows} ${writtenAt(header)}\n`);
  }
  return 0;
}

/** Checks all records except dead ones: their blocks are in the dead letters, or their damage was reported when it was found. */
function verify(image: RingImage): number {
  warnIfHeld(image);
  const problems: string[] = [];
  image.superblocks.forEach((reading, index) => {
    if (reading.status !== 'valid') problems.push(`at ${index * SUPERBLOCK_BYTES}: superblock ${index} is ${reading.status}`);
  });
  for (const { offset, records, reason } of image.log.damage)
    problems.push(`at ${offset}: ${reason} damaged, ${count(records, 'record')} lost`);
  let checked = 0;
  for (const header of image.blocks) {
    if (image.format.state(header.offset) === State.dead) continue;
    checked++;
    if (!image.format.payloadIsIntact(header)) problems.push(`at ${header.offset}: record ${header.sequence} has a damaged payload`);
    else if (!isZstd(image.format.payload(header))) problems.push(`at ${header.offset}: record ${header.sequence} is not a zstd frame`);
  }
  if (image.fileBytes < image.newest.fileBytes)
    problems.push(`at ${image.fileBytes}: the file is ${size(image.newest.fileBytes - image.fileBytes)} too short`);
  for (const problem of problems) print(`${problem}\n`);
  print(
    problems.length === 0
      ? `${image.path} is intact: ${count(checked, 'record')} checked\n`
      : `${image.path} has ${count(problems.length, 'problem')}; ${count(checked, 'record')} checked\n`,
  );
  return problems.length === 0 ? 0 : 1;
}

function runExport(dir: string, format: string, out: string | undefined): number {
  if (format !== 'native' && format !== 'otlp') throw new UsageError(`--format is ${format}. Allowed: native, otlp.`);
  if (format === 'native' && out === undefined)
    throw new UsageError('export --format native needs --out, a directory for its files; see --help.');
  const image = new RingImage(dir);
  warnIfHeld(image);
  for (const { offset, records, reason } of image.log.damage) note(`at ${offset}: ${count(records, 'record')} lost (${reason} damaged)`);
  const { pending } = image;
  const what = sums(pending.map(({ header }) => header));
  if (format === 'native') {
    const target = resolve(out!);
    const inserts = pendingInserts(image, pending);
    writeNativeExport(inserts, target);
    const journals = journalsOf(image.path);
    for (const { token } of inserts)
      if (journals.read(token) !== undefined)
        note(
          `${token}: some of its rows may already be in ClickHouse, as a collector was inserting it span by span. ` +
            'Let a collector finish this. If you send the rows yourself, they may be stored twice.',
        );
    note(
      `${what} in ${count(inserts.length, 'insert')} are in ${target}. To send them:\n\n` +
        `  CLICKHOUSE_URL=http://clickhouse:8123 ${target}/replay.sh\n`,
    );
    return 0;
  }
  const lines = pendingLines(image, pending);
  if (out === undefined) for (const line of lines) print(line);
  else writeFileSync(out, [...lines].join(''));
  note(`${what} exported`);
  return 0;
}

function* pendingLines(image: RingImage, pending: readonly PendingBlock[]): Generator<string> {
  for (const { header } of pending) {
    yield* otlpLines(image.format.payload(header), (reason) =>
      note(`at ${header.offset}: record ${header.sequence} is skipped: ${reason}`),
    );
  }
}

function isZstd(payload: Buffer): boolean {
  try {
    zstdDecompressSync(payload);
    return true;
  } catch {
    return false;
  }
}

function warnIfHeld({ heldBy, path }: RingImage): void {
  if (heldBy !== undefined)
    note(
      `${path} is in use by a running collector (process ${heldBy}): ` +
        'the file changes while it is read, and a record that is being written may look damaged.',
    );
}

function stateOf({ format }: RingImage, { kind, offset }: RecordHeader): string {
  if (kind === Kind.padding) return 'padding';
  const state = format.state(offset);
  const name = STATE_NAMES.find(([, code]) => code === state)![0];
  if (state !== State.assigned) return name;
  const { first, last } = format.insertOf(offset)!;
  return `${name}(${first}-${last})`;
}

function sums(headers: readonly RecordHeader[]): string {
  const bytes = headers.reduce((sum, { payloadLength }) => sum + payloadLength, 0);
  const rows = headers.reduce((sum, { rows: spans }) => sum + spans, 0);
  return `${count(headers.length, 'record')}, ${size(bytes)}, ${count(rows, 'span')}`;
}

function age(header: RecordHeader): string {
  const seconds = Math.round((Date.now() - header.writtenAtMs) / 1000);
  return `written ${writtenAt(header)}, ${count(seconds, 'second')} ago`;
}

function writtenAt({ kind, writtenAtMs }: RecordHeader): string {
  return kind === Kind.padding ? '-' : new Date(writtenAtMs).toISOString();
}
