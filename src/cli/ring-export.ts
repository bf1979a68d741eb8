import type { PendingBlock, RingImage } from '../disk-buffer/ring-image.ts';
import type { ExportedInsert } from './native-export.ts';

/** Blocks that no insert has taken are sent as inserts of about this many spans. */
const SPANS_PER_INSERT = 100_000;
const BYTES_PER_INSERT = 64 * 1024 ** 2;

/**
 * Inserts as the collector would send them. An insert that was under way keeps its token: what of it is in ClickHouse
 * already is not stored again. The others get one made of their numbers, so that a second replay stores nothing twice.
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
