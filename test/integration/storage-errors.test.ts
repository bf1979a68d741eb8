import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { insertBlocks } from '../../src/storage/insert.ts';
import { InsertError } from '../../src/storage/insert-error.ts';
import { createStatements } from '../../src/storage/table.ts';
import { startClickHouse, type TestClickHouse } from '../support/clickhouse.ts';
import { newBlock } from '../support/ring-batching.ts';
import { Random } from '../support/random.ts';

const SEED = Number(process.env.SEED ?? 7);
const MEMORY_LIMIT_EXCEEDED = '241';

let clickhouse: TestClickHouse;
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

describe('an answer', () => {
  test('means stored only if it is ClickHouse\'s own, and empty', () => {
    expect(from(200, own)).toBeUndefined();
    expect(from(200, {})).toMatchObject({ code: 'HTTP 200', retryable: true });
    expect(from(200, own, 'x')).toMatchObject({ code: 'HTTP 200', retryable: true });
    expect(from(204, own)).toMatchObject({ code: 'HTTP 204', retryable: true });
    expect(from(200, { ...own, 'x-clickhouse-exception-code': '60' })).toMatchObject({ code: '60', retryable: true, untouched: true });
  });

  test('refuses for good only with an exception that names the data', () => {
    expect(from(400, {}, 'Code: 117. DB::Exception: Incorrect data')).toMatchObject({ code: '117', retryable: false });
    expect(from(400, {}, 'Code: 62. DB::Exception: Syntax error: While executing Native. (SYNTAX_ERROR)')).toMatchObject({ retryable: false });
    expect(from(400, {}, 'Code: 62. DB::Exception: Syntax error. (SYNTAX_ERROR)')).toMatchObject({ retryable: true });
    expect(from(400, {}, "Code: 6. DB::Exception: Cannot parse: while pushing to view default.mv (CANNOT_PARSE_TEXT)")).toMatchObject({ retryable: true });
    expect(from(400, {}, 'Bad Request')).toMatchObject({ code: 'HTTP 400', retryable: true });
  });
});
