/** After so many chunks of a body, they are coalesced. */
export const COALESCE_EVERY = 1024;
/** Chunks that are shorter on average are joined: each takes about a hundred bytes besides its own, and a chunk can be a single byte. */
const SHORT_BYTES = 1024;

/**
 * Joins the chunks from number `from` on into one, if they are short: so that a body takes memory in proportion to its length.
 * @returns the number of chunks now
 */
export function coalesceSmallChunks(chunks: Uint8Array[], from: number): number {
  const tail = chunks.slice(from);
  const bytes = tail.reduce((sum, chunk) => sum + chunk.length, 0);
  if (bytes < tail.length * SHORT_BYTES) chunks.splice(from, tail.length, Buffer.concat(tail, bytes));
  return chunks.length;
}
