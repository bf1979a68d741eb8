/** The chunks of a body are coalesced each time there are this many more. */
export const COALESCE_EVERY = 1024;
/** Chunks that are shorter on average are joined. A chunk can be a single byte, and takes about a hundred bytes more than its length. */
const SHORT_BYTES = 1024;

/**
 * Joins the chunks from index `from` on into one if they are short: then the memory of a body is proportional to its length.
 * @returns the resulting number of chunks
 */
export function coalesceSmallChunks(chunks: Uint8Array[], from: number): number {
  const tail = chunks.slice(from);
  const bytes = tail.reduce((sum, chunk) => sum + chunk.length, 0);
  if (bytes < tail.length * SHORT_BYTES) chunks.splice(from, tail.length, Buffer.concat(tail, bytes));
  return chunks.length;
}
