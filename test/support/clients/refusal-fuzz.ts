import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { readNativeBlocks } from '../../../src/cli/native-reader.ts';
import { DeadLetterFolder } from '../../../src/dead-letters/dead-letter-folder.ts';
import { createStatements } from '../../../src/storage/table.ts';
import { NativeRows } from '../../../src/transcode/native/native-rows.ts';
import { insertBlock } from '../generators/blocks.ts';
import { type Change, FORBIDDEN, markedSpans, type MarkedSpans, NOT_UTF8, text, withJsonAttributes } from '../generators/marked-spans.ts';
import type { Random } from '../generators/random.ts';
import { startClickHouse, type TestClickHouse } from '../servers/clickhouse.ts';
import { startCollector, until } from '../servers/collector.ts';
import { PROTOBUF_TYPE } from './otlp-client.ts';

/*
 * Sends valid and invalid spans in the same requests, at the same time, to a table with a constraint and with attributes as JSON. Invalid
 * are text that is not UTF-8, names of attributes that are equal once they are repaired, and values that the constraint forbids.
 *
 * A dead letter holds a good row if ClickHouse accepts one of its rows when that is inserted alone.
 */

export interface RefusalFigures {
  readonly requests: number;
  readonly acknowledged: number;
  readonly stored: number;
  readonly inDeadLetters: number;
  readonly acknowledgedAndNotFound: number;
  readonly storedTwice: number;
  readonly deadLettersWithAGoodRow: number;
}

const REQUESTS_AT_ONCE = 20;
const TABLE_CONSTRAINT = "ALTER TABLE otel_traces ADD CONSTRAINT allowed CHECK SpanAttributes.forbidden::String != 'yes'";

/** A second placeholder, for bytes that differ from those of NOT_UTF8 but are equal to them once both are repaired. */
const TWIN = NOT_UTF8.replaceAll('\u0001', '\u0002');
const TWIN_BYTES = Buffer.from([0xfe, 0x62, 0x61, 0x64, 0xc4]);

/**
 * Sends requests to the built collector, with the disk buffer, and counts where their spans are afterwards.
 * @param onSent is called with the number of requests sent so far
 */
export async function fuzzRefusals(random: Random, requests: number, onSent: (requests: number) => void): Promise<RefusalFigures> {
  const dir = mkdtempSync(join(tmpdir(), 'refusal-fuzz-'));
  await using clickhouse = await startClickHouse({ systemLogs: false });
  const [createDatabase, createTable] = createStatements('default', 'otel_traces');
  for (const statement of [createDatabase, withJsonAttributes(createTable), TABLE_CONSTRAINT]) await clickhouse.command(statement);
  const acknowledged: string[] = [];
  let sent = 0;
  try {
    await using collector = await startCollector({
      clickhouse,
      env: { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: '64', BATCH_TIMEOUT_MS: '50' },
    });
    while (sent < requests) {
      const bodies = Array.from({ length: Math.min(REQUESTS_AT_ONCE, requests - sent) }, () => randomSpans(random));
      const answers = await Promise.all(bodies.map(({ body }) => collector.send(body, PROTOBUF_TYPE)));
      bodies.forEach(({ spanIds }, index) => {
        if (answers[index].status === 200) acknowledged.push(...spanIds);
      });
      sent += bodies.length;
      onSent(sent);
      await until(
        async () => (await collector.metrics()).get('hive_collector_buffered_spans') === 0,
        'all of it is stored or a dead letter',
        300_000,
      );
    }
    return {
      requests: sent,
      acknowledged: acknowledged.length,
      ...(await found(clickhouse, new DeadLetterFolder(join(dir, 'dead-letters')), acknowledged)),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function found(
  clickhouse: TestClickHouse,
  folder: DeadLetterFolder,
  acknowledged: readonly string[],
): Promise<Omit<RefusalFigures, 'requests' | 'acknowledged'>> {
  const stored = (await clickhouse.query<{ SpanId: string }>('SELECT SpanId FROM otel_traces')).map(({ SpanId }) => SpanId);
  const dead: string[] = [];
  let deadLettersWithAGoodRow = 0;
  for (const { token } of await folder.list()) {
    const bytes = zstdDecompressSync(await folder.block(token));
    dead.push(...readNativeBlocks(bytes).flatMap(({ columns }) => columns.get('SpanId') as string[]));
    if (await hasAGoodRow(clickhouse, bytes)) deadLettersWithAGoodRow++;
  }
  const everywhere = new Set([...stored, ...dead]);
  return {
    stored: stored.length,
    inDeadLetters: dead.length,
    acknowledgedAndNotFound: acknowledged.filter((id) => !everywhere.has(id)).length,
    storedTwice: stored.length + dead.length - everywhere.size,
    deadLettersWithAGoodRow,
  };
}

async function hasAGoodRow(clickhouse: TestClickHouse, bytes: Buffer): Promise<boolean> {
  const rows = await NativeRows.parse(bytes);
  for (let row = 0; row < rows.rows; row++) {
    const isTaken = await insertBlock(clickhouse, zstdCompressSync(await rows.select([[row, row + 1]]))).then(
      () => true,
      () => false,
    );
    if (isTaken) return true;
  }
  return false;
}

function randomSpans(random: Random): MarkedSpans {
  const share = random.pick([0, 0, 0.1, 0.5]);
  const spans = markedSpans(
    Array.from({ length: 1 + random.below(random.pick([2, 10, 40])) }, () => (random.chance(share) ? random.pick(BAD) : undefined)),
  );
  const body = Buffer.from(spans.body);
  for (let at = body.indexOf(TWIN); at >= 0; at = body.indexOf(TWIN, at)) TWIN_BYTES.copy(body, at);
  return { ...spans, body };
}

const BAD: readonly Change[] = [
  FORBIDDEN,
  (span) => void span.attributes.push(text('text', NOT_UTF8)),
  (span) => void span.attributes.push(text(NOT_UTF8, 'value')),
  (span) => void span.attributes.push(text(NOT_UTF8, 'one'), text(TWIN, 'other')),
  (span) => void span.attributes.push(text('list', NOT_UTF8), text('forbidden', 'yes')),
  (span) => void span.events[0].attributes.push(text('text', NOT_UTF8)),
  (span) => void span.links[0].attributes.push(text(NOT_UTF8, NOT_UTF8)),
  (span) => void (span.name = NOT_UTF8),
  (span) => void (span.status = { message: NOT_UTF8 }),
];
