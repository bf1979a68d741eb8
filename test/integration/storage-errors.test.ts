import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { InsertError } from '../../src/storage/insert-error.ts';
import { insertBlocks, type InsertOutcome } from '../../src/storage/insert.ts';
import { createStatements } from '../../src/storage/table.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { Random } from '../support/generators/random.ts';
import { newBlock } from '../support/generators/ring-batching.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';

const SEED = Number(process.env.SEED ?? 7);
const MEMORY_LIMIT_EXCEEDED = '241';

let clickhouse: TestClickHouse;
let tokens = 0;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  for (const statement of createStatements('default', 'otel_traces')) await clickhouse.command(statement);
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

function flipped(frame: Buffer, random: Random): Buffer {
  const bytes = zstdDecompressSync(frame);
  bytes[random.below(bytes.length)] = random.below(256);
  return zstdCompressSync(bytes);
}

function cut(frame: Buffer, random: Random): Buffer {
  const bytes = zstdDecompressSync(frame);
  return zstdCompressSync(bytes.subarray(0, random.between(1, bytes.length - 1)));
}

function damaged(frame: Buffer, random: Random): Buffer {
  frame[random.below(frame.length)] ^= 1 << random.below(8);
  return frame;
}

async function outcomesOf(breakIt: (bytes: Buffer, random: Random) => Buffer, times: number): Promise<Map<string, number>> {
  const config = loadConfig({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true' });
  const client = createClickHouseClient(config);
  const random = new Random(SEED);
  const intact = newBlock(3).frame;
  const outcomes = new Map<string, number>();
  try {
    for (let turn = 0; turn < times; turn++) {
      const outcome = await insertBlocks(client, config, [breakIt(Buffer.from(intact), random)], `${breakIt.name}-${turn}`);
      const key = outcome.status === 'retry' ? `retry ${outcome.error.code}: ${outcome.error.message}` : outcome.status;
      outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
    }
  } finally {
    await client.close();
  }
  return outcomes;
}

describe('a block that is broken', () => {
  test.each([
    ['a byte of it is another', flipped],
    ['it ends too early', cut],
    ['a bit of its compressed bytes is flipped', damaged],
  ] as const)('as %s is refused for good, unless what is left makes sense or wants too much memory', async (_, breakIt) => {
    const outcomes = await outcomesOf(breakIt, 120);
    expect(outcomes.get('poison')).toBeGreaterThan(10);
    const retried = [...outcomes.keys()].filter((key) => key.startsWith('retry') && !key.startsWith(`retry ${MEMORY_LIMIT_EXCEEDED}`));
    expect(retried).toEqual([]);
  });
});

const own = { 'x-clickhouse-query-id': '1' };
const from = (status: number, headers: Record<string, string>, body = '') => InsertError.fromAnswer({ status, headers, body });
const exception = (code: number, text: string, name: string) =>
  from(500, {}, `Code: ${code}. DB::Exception: ${text}. (${name}) (version 26.7.2.1)\n`);

describe('an answer', () => {
  test("means stored only if it is ClickHouse's own, and empty", () => {
    expect(from(200, own)).toBeUndefined();
    expect(from(200, {})).toMatchObject({ code: 'HTTP 200', retryable: true });
    expect(from(200, own, 'x')).toMatchObject({ code: 'HTTP 200', retryable: true });
    expect(from(204, own)).toMatchObject({ code: 'HTTP 204', retryable: true });
    expect(from(200, { ...own, 'x-clickhouse-exception-code': '60' })).toMatchObject({ code: '60', retryable: true, nothingStored: false });
  });

  test('refuses for good only with an exception that names the data', () => {
    expect(exception(33, 'Cannot read all data: While executing Native', 'CANNOT_READ_ALL_DATA')).toMatchObject({
      code: '33',
      retryable: false,
    });
    expect(exception(62, 'Syntax error: While executing Native', 'SYNTAX_ERROR')).toMatchObject({ retryable: false });
    expect(
      exception(42, 'Parameter #0 for DateTime64 is missing: While executing Native', 'NUMBER_OF_ARGUMENTS_DOESNT_MATCH'),
    ).toMatchObject({ retryable: false });
    expect(exception(62, 'Syntax error', 'SYNTAX_ERROR')).toMatchObject({ retryable: true });
    expect(from(400, {}, 'Bad Request')).toMatchObject({ code: 'HTTP 400', retryable: true });
    expect(from(400, {}, 'They say: Code: 33. DB::Exception: no')).toMatchObject({ code: 'HTTP 400', retryable: true });
  });

  test('that is cut off decides nothing', () => {
    const whole =
      'Code: 469. DB::Exception: Constraint `odd` is violated at row 1. (VIOLATED_CONSTRAINT) (version 26.7.2.1 (official build))';
    expect(from(500, {}, whole)).toMatchObject({ retryable: false });
    for (let length = 0; length < whole.length; length++) {
      expect(from(500, { 'x-clickhouse-exception-code': '469' }, whole.slice(0, length))).toMatchObject({
        code: '469',
        retryable: true,
        nothingStored: false,
      });
    }
  });

  // The embedded server has no port for other servers: these are in the words of a server that has.
  test('from behind a view or a Distributed table says neither that nothing is stored nor that nothing will be', () => {
    const missing = 'Table default.t does not exist';
    expect(exception(60, missing, 'UNKNOWN_TABLE')).toMatchObject({ nothingStored: true });
    expect(exception(60, `${missing}: while pushing to view default.v (0a1b)`, 'UNKNOWN_TABLE')).toMatchObject({ nothingStored: false });
    expect(exception(60, `Received from b:9000. DB::Exception: ${missing}`, 'UNKNOWN_TABLE')).toMatchObject({ nothingStored: false });
    const violated = 'Constraint `odd` for table default.t is violated at row 1';
    const status = 'Insertion status:\nWrote 1 blocks and 5 rows on shard 0 replica 0, a:9000 (average 0 ms per block)\n';
    expect(exception(469, violated, 'VIOLATED_CONSTRAINT')).toMatchObject({ retryable: false });
    expect(exception(469, `Received from b:9000. DB::Exception: ${violated}`, 'VIOLATED_CONSTRAINT')).toMatchObject({ retryable: true });
    expect(exception(469, `${violated}: ${status}`, 'VIOLATED_CONSTRAINT')).toMatchObject({ retryable: true });
  });
});

/** What ClickHouse says to an insert of spans that have these values as the attribute x. */
async function refusalOf(...values: string[]): Promise<InsertOutcome> {
  const encoder = new BlockEncoder('hive');
  for (const [index, stringValue] of values.entries()) {
    const id = (index + 1).toString(16).padStart(16, '0');
    const span = {
      traceId: id + id,
      spanId: id,
      name: 'x',
      startTimeUnixNano: '1',
      endTimeUnixNano: '2',
      attributes: [{ key: 'x', value: { stringValue } }],
    };
    encoder.add([Buffer.from(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }))], 'json', 'target');
  }
  const config = loadConfig({ CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_TABLE: 'refusing', DISABLE_AUTH: 'true' });
  const client = createClickHouseClient(config);
  try {
    return await insertBlocks(client, config, [encoder.seal().frame], `refused-${tokens++}`);
  } finally {
    await client.close();
  }
}

describe('what the operator can fix', () => {
  beforeEach(() => clickhouse.command(createStatements('default', 'refusing')[1]));
  afterEach(async () => {
    for (const name of ['refusing_view_of_view', 'refusing_view', 'refusing_copy', 'refusing_number', 'refusing'])
      await clickhouse.command(`DROP TABLE IF EXISTS ${name} SYNC`);
  });

  test.each([1, 2_000, 100_000])('a view that fails with a value of %d bytes is tried again', async (length) => {
    await clickhouse.command(
      "CREATE MATERIALIZED VIEW refusing_view ENGINE = MergeTree ORDER BY n AS SELECT toUInt64(SpanAttributes['x']) AS n FROM refusing",
    );
    expect(await refusalOf('x'.repeat(length))).toMatchObject({
      status: 'retry',
      error: { code: '6', nothingStored: false, message: expect.stringContaining('while pushing to view') },
    });
  });

  test('so is a view of a view', async () => {
    await clickhouse.command('CREATE TABLE refusing_copy (x String) ENGINE = MergeTree ORDER BY x');
    await clickhouse.command('CREATE TABLE refusing_number (n UInt64) ENGINE = MergeTree ORDER BY n');
    await clickhouse.command("CREATE MATERIALIZED VIEW refusing_view TO refusing_copy AS SELECT SpanAttributes['x'] AS x FROM refusing");
    await clickhouse.command(
      'CREATE MATERIALIZED VIEW refusing_view_of_view TO refusing_number AS SELECT toUInt64(x) AS n FROM refusing_copy',
    );
    expect(await refusalOf('x')).toMatchObject({ status: 'retry', error: { code: '6', nothingStored: false } });
  });

  test.each([
    ['a computed column', "ADD COLUMN n UInt64 MATERIALIZED toUInt64(SpanAttributes['x'])", '6'],
    ['a default', "ADD COLUMN n Date DEFAULT toDate(SpanAttributes['x'])", '38'],
    ['a computed enum', "ADD COLUMN n Enum8('a' = 1) MATERIALIZED SpanAttributes['x']", '691'],
    ['computed arrays', 'ADD COLUMN n Array(UInt8) MATERIALIZED arrayMap((a, b) -> a, [1], Events.Name)', '190'],
    ['a constraint that fails', "ADD CONSTRAINT n CHECK toUInt64(SpanAttributes['x']) > 0", '6'],
  ])('so is %s', async (_, alteration, code) => {
    await clickhouse.command(`ALTER TABLE refusing ${alteration}`);
    expect(await refusalOf('x')).toMatchObject({ status: 'retry', error: { code } });
  });

  test('not so a value that the type of its column does not take', async () => {
    await clickhouse.command("ALTER TABLE refusing MODIFY COLUMN StatusMessage Enum8('a' = 1)");
    expect(await refusalOf('x')).toMatchObject({ status: 'poison', error: { code: '691' } });
  });
});

test('a constraint refuses a span for good, whatever the span says', async () => {
  const texts = [
    'while pushing to view',
    ': while pushing to view default.v. (VIOLATED_CONSTRAINT) (version 26.7.2.1)',
    ': while pushing to view default.v. (VIOLATED_CONSTRAINT) (version 26.7.2.1',
    'Code: 60. DB::Exception: Received from b:9000. DB::Exception: ',
    'Insertion status:\n',
    // ClickHouse cuts the values it quotes: here anywhere in the name of the view.
    ...Array.from({ length: 20 }, (_, padding) => `${'x'.repeat(40 + 2 * padding)}: while pushing to view default.v${'x'.repeat(100)}`),
  ];
  await clickhouse.command(createStatements('default', 'refusing')[1]);
  try {
    await clickhouse.command("ALTER TABLE refusing ADD CONSTRAINT n CHECK length(SpanAttributes['x']) < 5");
    for (const text of texts) expect(await refusalOf(text), text).toMatchObject({ status: 'poison', error: { code: '469' } });
  } finally {
    await clickhouse.command('DROP TABLE refusing SYNC');
  }
});
