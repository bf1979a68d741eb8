import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { wireColumns } from '../transcode/native-block.ts';
import type { PendingBlock, RingImage } from './ring-image.ts';

/** Blocks that no insert has taken are sent as inserts of about this many spans. */
const SPANS_PER_INSERT = 100_000;
const BYTES_PER_INSERT = 64 * 1024 ** 2;

interface ExportedInsert {
  readonly token: string;
  readonly blocks: readonly PendingBlock[];
}

/**
 * Inserts as the collector would send them. An insert that was under way keeps its token: what of it is in ClickHouse
 * already is not stored again. The others get one made of their numbers, so that a second replay stores nothing twice.
 */
export function insertsOf(image: RingImage, pending: readonly PendingBlock[]): ExportedInsert[] {
  const underWay = Map.groupBy(pending.filter(({ token }) => token !== undefined), ({ token }) => token!);
  const inserts: ExportedInsert[] = [...underWay].map(([token, blocks]) => ({ token, blocks }));
  for (const blocks of chunked(pending.filter(({ token }) => token === undefined))) {
    inserts.push({ token: `${image.ringId}-export-${blocks[0].header.sequence}-${blocks.at(-1)!.header.sequence}`, blocks });
  }
  return inserts;
}

/** Writes each insert to a file of its own, and a script that sends them. The number of files. */
export function writeNativeExport(image: RingImage, pending: readonly PendingBlock[], dir: string): number {
  mkdirSync(dir, { recursive: true });
  const inserts = insertsOf(image, pending);
  for (const { token, blocks } of inserts) {
    writeFileSync(join(dir, fileName(token)), Buffer.concat(blocks.map(({ header }) => image.format.payload(header))));
  }
  writeFileSync(join(dir, 'replay.sh'), replayScript(inserts), { mode: 0o755 });
  return inserts.length;
}

function chunked(blocks: readonly PendingBlock[]): PendingBlock[][] {
  const chunks: PendingBlock[][] = [];
  let rows = 0;
  let bytes = 0;
  for (const block of blocks) {
    const { header } = block;
    if (chunks.length === 0 || rows + header.rows > SPANS_PER_INSERT || bytes + header.payloadLength > BYTES_PER_INSERT) {
      chunks.push([]);
      rows = 0;
      bytes = 0;
    }
    chunks.at(-1)!.push(block);
    rows += header.rows;
    bytes += header.payloadLength;
  }
  return chunks;
}

function fileName(token: string): string {
  return `${token}.native.zst`;
}

/** The password goes to curl by its standard input: the arguments of a process are for everybody to see. */
function replayScript(inserts: readonly ExportedInsert[]): string {
  const columns = wireColumns.map(({ name }) => `%60${name}%60`).join(',');
  const lines = inserts.map(({ token, blocks }) => `insert ${token} ${blocks.reduce((sum, { header }) => sum + header.rows, 0)}`);
  return `#!/bin/sh
# Sends the spans beside this script to ClickHouse, one insert a file. Stops at the first that fails; run it again then:
# each insert has its deduplication token, so what is stored already is not stored twice. That needs a deduplication
# window on the table, and it holds for the last inserts only: do not wait for weeks.
#
#   CLICKHOUSE_URL=http://clickhouse:8123 CLICKHOUSE_USERNAME=default CLICKHOUSE_PASSWORD=... \\
#   CLICKHOUSE_DATABASE=default CLICKHOUSE_TABLE=otel_traces ./replay.sh
set -eu
cd "$(dirname "$0")"
: "\${CLICKHOUSE_URL:?is not set: for example http://clickhouse:8123}"
TABLE="%60\${CLICKHOUSE_DATABASE:-default}%60.%60\${CLICKHOUSE_TABLE:-otel_traces}%60"
QUERY="INSERT%20INTO%20$TABLE%20(${columns})%20FORMAT%20Native"
SETTINGS="async_insert=0&insert_deduplicate=1&deduplicate_blocks_in_dependent_materialized_views=1&throw_on_max_partitions_per_insert_block=0&wait_end_of_query=1"

insert() {
  echo "$1: $2 spans"
  printf 'X-ClickHouse-User: %s\\nX-ClickHouse-Key: %s\\n' "\${CLICKHOUSE_USERNAME:-default}" "\${CLICKHOUSE_PASSWORD:-}" |
    curl --silent --show-error --fail-with-body --header @- --header 'Content-Encoding: zstd' --data-binary "@$1.native.zst" \\
      "\${CLICKHOUSE_URL%/}/?$SETTINGS&insert_deduplication_token=$1&query=$QUERY"
}

${lines.join('\n')}
`;
}
