/** The bytes are not a Native block as native-block.ts writes it. */
export class NotANativeBlock extends Error {
  override readonly name = 'NotANativeBlock';
}

/** Reads the bytes of Native blocks (native-block.ts draws their layout). Reading past the end throws NotANativeBlock. */
export class NativeCursor {
  protected readonly bytes: Buffer;
  protected at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.at === this.bytes.length;
  }

  protected varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.bytes[this.skip(1)];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  /** Reads a String: its length as a varint, then its bytes. latin1 keeps every byte. */
  protected text(encoding: 'utf8' | 'latin1'): string {
    const length = this.varint();
    const start = this.skip(length);
    return this.bytes.toString(encoding, start, start + length);
  }

  /** Skips `length` bytes. @returns where they start. @throws NotANativeBlock when there are fewer */
  protected skip(length: number): number {
    const start = this.at;
    this.at += length;
    if (this.at > this.bytes.length) throw new NotANativeBlock('it ends too early');
    return start;
  }
}
