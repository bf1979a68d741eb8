import { BlockEncoder } from '../../../src/transcode/block-encoder.ts';
import type { DialectName } from '../../../src/transcode/columns/dialect.ts';
import { wireColumns } from '../../../src/transcode/columns/native-block.ts';
import { encodeRequest, type OtlpRequest } from '../oracle/otlp-request.ts';
import type { TestClickHouse } from '../servers/clickhouse.ts';

const COLUMNS = wireColumns.map(({ name }) => `\`${name}\``).join(', ');

/** The compressed block of a request. */
export function blockOf(request: OtlpRequest, dialect: DialectName, targetId = 'target'): Buffer {
  const encoder = new BlockEncoder(dialect);
  encoder.add([encodeRequest(request)], 'protobuf', targetId);
  return encoder.seal().frame;
}

/** Inserts a block as the collector does. @throws Error with ClickHouse's message */
export async function insertBlock(
  clickhouse: TestClickHouse,
  block: Buffer,
  table = 'otel_traces',
  settings: Readonly<Record<string, string | number>> = {},
): Promise<void> {
  const all = Object.entries({ throw_on_max_partitions_per_insert_block: 0, ...settings }).map(([name, value]) => `${name} = '${value}'`);
  await clickhouse.command(`INSERT INTO ${table} (${COLUMNS}) SETTINGS ${all.join(', ')} FORMAT Native`, block, {
    'content-encoding': 'zstd',
  });
}
