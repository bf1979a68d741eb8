import { beforeEach, describe, expect, test } from 'vitest';
import { createStatements } from '../../src/storage/table.ts';
import { newBlock, SPANS_PER_BLOCK, startRingBatching, stored } from '../support/generators/ring-batching.ts';
import type { ClickHouseProxy } from '../support/servers/clickhouse-proxy.ts';
import type { TestClickHouse } from '../support/servers/clickhouse.ts';
import { proxiedClickHouse } from '../support/servers/proxied-clickhouse.ts';

/* What is set in the profile of the collector's user decides nothing of its inserts. */

const PROFILES: Readonly<Record<string, string>> = {
  async: '<async_insert>1</async_insert><wait_for_async_insert>0</wait_for_async_insert>',
  forgetful: '<deduplicate_insert>disable</deduplicate_insert><insert_deduplicate>0</insert_deduplicate>',
  strict: '<use_strict_insert_block_limits>1</use_strict_insert_block_limits><max_insert_block_size>200</max_insert_block_size>',
  binary: '<input_format_native_decode_types_in_binary_format>1</input_format_native_decode_types_in_binary_format>',
  narrow: '<max_partitions_per_insert_block>1</max_partitions_per_insert_block><insert_quorum>2</insert_quorum>',
};

const profiles = Object.entries(PROFILES).map(([name, settings]) => `<${name}>${settings}</${name}>`);
const users = Object.keys(PROFILES).map(
  (name) => `<${name}><password/><networks><ip>127.0.0.1</ip></networks><profile>${name}</profile></${name}>`,
);

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
const server = proxiedClickHouse(`<profiles>${profiles.join('')}</profiles><users>${users.join('')}</users>`);
const { dir } = server;

beforeEach(async () => {
  ({ clickhouse, proxy } = server);
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await clickhouse.command(createStatements('default', 'otel_traces')[1]);
});

describe.each(Object.entries(PROFILES))('with the profile %s: %s', (user) => {
  test('a repeated insert is stored once, and what is refused in the middle leaves nothing behind', async () => {
    await using batching = startRingBatching(`${dir.path}/${user}`, [proxy.url], {
      CLICKHOUSE_USERNAME: user,
      CLICKHOUSE_TIMEOUT_MS: '20000',
    });
    await batching.storage.availability.whenUp();
    proxy.fail({ kind: 'cut answer' }, 'inserts', 1);
    await batching.push(1);
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: SPANS_PER_BLOCK, spans: SPANS_PER_BLOCK });

    const good = Array.from({ length: 4 }, () => newBlock(2_000));
    const broken = { frame: Buffer.from('this is no zstd frame'), rows: 1 };
    await batching.pushTogether([...good, broken]);
    await batching.drained();
    expect(batching.deadLetters.count).toBe(1);
    expect(await stored([clickhouse])).toEqual({ rows: SPANS_PER_BLOCK + 8_000, spans: SPANS_PER_BLOCK + 8_000 });
  });
});
