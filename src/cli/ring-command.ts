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

const HELP = `Looks into a disk buffer, also into one of a collector that is dead. Only resize changes it; the others read the file
into memory whole: a ring of 1 GB takes 1 GB.

npm run ring -- inspect DIR [--records]
    What is in it: superblocks, records by state, inserts under way, damage. --records: a line for each record.

npm run ring -- verify DIR
    Checks every checksum and every zstd frame. A line for each problem, with its offset, and exit code 1 if there is one.

npm run ring -- export DIR --format native --out DIR2
    All spans that are not known to be in ClickHouse: a file for each insert, zstd as ClickHouse reads it, and replay.sh,
    which sends them by curl. It can be run again: each insert has its deduplication token.

npm run ring -- export DIR --format otlp [--out FILE]
    The same spans as OTLP/JSON, an ExportTraceServiceRequest a line, to standard output or to FILE. Attributes are text.
    Sending them to a collector stores them, also those that are in ClickHouse already: prefer native.

npm run ring -- resize DIR --size-mb N [--or-keep]
    Gives the file another size, and keeps the spans in it. No collector may run on it. If it is interrupted, the old file is still
    there, or the new one is complete. --or-keep: exit code 0 also when it can't be resized, and the reason on standard error.

DIR is the collector's DISK_BUFFER_DIR. A collector that starts on the same directory sends what is in it by itself: either
let it, or export and replay, but not both, as the spans would be stored twice.
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
    throw new UsageError(`There is no command ${command}. There are inspect, verify, export and resize; see --help.`);
  }
  if (dir === undefined) throw new UsageError(`${command} needs the directory of the disk buffer; see --help.`);
  if (rest.length > 0) throw new UsageError(`${rest[0]} is one argument too many; see --help.`);
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
  const { path, fileBytes, newest, superblocks, tailOffset, headOffset, nextSequence, damage, format } = image;
  print(`${path}: ${size(fileBytes)}${fileBytes < newest.fileBytes ? `, cut short: it had ${size(newest.fileBytes)}` : ''}\n`);
  warnIfHeld(image);
  print(`ring ${image.ringId}\n`);
  superblocks.forEach((reading, index) => {
    if (reading.status === 'foreign')
      print(`superblock ${index}: of format version ${reading.version}, which this collector does not read\n`);
    else if (reading.status === 'damaged') print(`superblock ${index}: damaged\n`);
    else
      print(
        `superblock ${index}: generation ${reading.superblock.generation}, ` +
          `tail at ${reading.superblock.tailOffset}, sequence ${reading.superblock.tailSequence}\n`,
      );
  });
  const usedBytes = image.records.reduce((sum, { payloadLength }) => sum + recordBytes(payloadLength), 0);
  print(
    `tail at ${tailOffset}, head at ${headOffset}, next sequence ${nextSequence}; ` +
      `${size(usedBytes)} of ${size(image.capacityBytes)} in use\n`,
  );

  print('\nrecords\n');
  for (const [name, state] of STATE_NAMES)
    print(`  ${name.padEnd(9)} ${sums(image.blocks.filter(({ offset }) => format.state(offset) === state))}\n`);
  print(`  padding   ${count(image.records.filter(({ kind }) => kind === Kind.padding).length, 'record')}\n`);
  const { pending } = image;
  if (pending.length > 0) print(`  oldest that is not inserted: ${age(pending[0].header)}\n`);

  print('\ninserts under way\n');
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
  for (const { offset, records, reason } of damage) print(`  at ${offset}: ${count(records, 'record')} lost (${reason})\n`);
  if (damage.length === 0) print('  none\n');

  if (withRecords) {
    print('\noffset sequence state bytes spans written\n');
    for (const header of image.records)
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
  for (const { offset, records, reason } of image.damage)
    problems.push(`at ${offset}: ${reason} damaged, ${count(records, 'record')} lost`);
  let checked = 0;
  for (const header of image.blocks) {
    if (image.format.state(header.offset) === State.dead) continue;
    checked++;
    if (!image.format.payloadIsIntact(header)) problems.push(`at ${header.offset}: record ${header.sequence} has a damaged payload`);
    else if (!isZstd(image.format.payload(header))) problems.push(`at ${header.offset}: record ${header.sequence} is no zstd frame`);
  }
  if (image.fileBytes < image.newest.fileBytes)
    problems.push(`at ${image.fileBytes}: the file ends, ${size(image.newest.fileBytes - image.fileBytes)} too early`);
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
  for (const { offset, records, reason } of image.damage) note(`at ${offset}: ${count(records, 'record')} lost (${reason} damaged)`);
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
          `${token}: some of its rows may be in ClickHouse already, as it was being taken apart by span. ` +
            'Let a collector end that; sent from here, they may be stored twice.',
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
      note(`at ${header.offset}: record ${header.sequence} is left out: ${reason}`),
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
        'what is read is of a moment, and a record that was just being written looks damaged.',
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
