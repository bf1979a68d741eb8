import type { PendingBlock, RingImage } from '../disk-buffer/ring-image.ts';
import type { ExportedInsert } from './native-export.ts';

/** Blocks without an insert are combined into inserts of at most this many spans and bytes; a larger block is an insert of its own. */
const SPANS_PER_INSERT = 100_000;
const BYTES_PER_INSERT = 64 * 1024 ** 2;

/**
 * The pending blocks as inserts. An insert that was in flight keeps its token, so that ClickHouse does not store again what it has. The
 * others get a token made of their sequence numbers, so that a second replay stores nothing twice.
 */
export function pendingInserts(image: RingImage, pending: readonly PendingBlock[]): ExportedInsert[] {
  const underWay = Map.groupBy(
    pending.filter(({ token }) => token !== undefined),
    ({ token }) => token!,
  );
  const inserts = [...underWay].map(([token, blocks]) => insertOf(image, token, blocks));
  for (const blocks of chunked(pending.filter(({ token }) => token === undefined))) {
    inserts.push(insertOf(image, `${image.ringId}-export-${blocks[0].header.sequence}-${blocks.at(-1)!.header.sequence}`, blocks));
  }
  return inserts;
}

function insertOf(image: RingImage, token: string, blocks: readonly PendingBlock[]): ExportedInsert {
  return {
    token,
    rows: blocks.reduce((sum, { header }) => sum + header.rows, 0),
    frames: blocks.map(({ header }) => image.format.payload(header)),
  };
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
