/**
 * Fixed ASCII text that is compared with bytes of a buffer, eight at a time. The words are compared as doubles, which JavaScript
 * loads without allocating: for ASCII text that is not all zeros, equal doubles are equal bytes.
 */
export class TextPattern {
  readonly length: number;
  private readonly words: Float64Array;
  private readonly wordsBeforeLast: number;

  /** @param text at least four characters */
  constructor(text: string) {
    this.length = text.length;
    const bytes = Buffer.from(text.padEnd(8, '\0'));
    const starts: number[] = [];
    for (let at = 0; at + 8 < bytes.length; at += 8) starts.push(at);
    // The last word overlaps the one before it, so that it ends where the text does.
    starts.push(bytes.length - 8);
    this.words = Float64Array.from(starts, (at) => bytes.readDoubleLE(at));
    if (text.length < 8) this.words = Float64Array.of(bytes.readInt32LE(0), bytes.readInt32LE(text.length - 4));
    this.wordsBeforeLast = this.words.length - 1;
  }

  /** Whether the text is at offset `at`. Reads no more bytes than the text has. */
  isAt(view: DataView, at: number): boolean {
    const { words, length } = this;
    if (length < 8) return view.getInt32(at, true) === words[0] && view.getInt32(at + length - 4, true) === words[1];
    const last = this.wordsBeforeLast;
    for (let i = 0; i < last; i++) if (view.getFloat64(at + i * 8, true) !== words[i]) return false;
    return view.getFloat64(at + length - 8, true) === words[last];
  }
}
