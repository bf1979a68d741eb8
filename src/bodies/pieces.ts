/** So many pieces are looked at together. */
export const PIECES_JOINED = 1024;
/** Pieces that are shorter on average are joined: each takes about a hundred bytes besides its own, and a chunk can be a single byte. */
const SHORT_BYTES = 1024;

/**
 * Joins the pieces from number `from` on into one, if they are short: so that a body takes memory in proportion to its length.
 * @returns the number of pieces now
 */
export function joinShortPieces(pieces: Uint8Array[], from: number): number {
  const tail = pieces.slice(from);
  const bytes = tail.reduce((sum, piece) => sum + piece.length, 0);
  if (bytes < tail.length * SHORT_BYTES) pieces.splice(from, tail.length, Buffer.concat(tail, bytes));
  return pieces.length;
}
