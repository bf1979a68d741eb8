/**
 * Whether `length` bytes (at least eight) are equal at two offsets of a buffer. They are compared as doubles, which JavaScript loads
 * without allocating. Words that are zero or NaN as doubles count as different, because different bytes can be zero. So the result is
 * never true for different bytes, and rarely false for equal ones.
 */
export function sameBytes(view: DataView, one: number, other: number, length: number): boolean {
  const last = length - 8;
  for (let i = 0; i < last; i += 8) {
    const word = view.getFloat64(one + i, true);
    if (word !== view.getFloat64(other + i, true) || word === 0) return false;
  }
  // Overlaps the word before it, so that it ends where the bytes do.
  const word = view.getFloat64(one + last, true);
  return word === view.getFloat64(other + last, true) && word !== 0;
}
