import { ByteBuffer } from '../../../src/transcode/bytes/byte-buffer.ts';
import { Dictionary } from '../../../src/transcode/columns/dictionary.ts';

/** Strings that a Dictionary of up to a thousand entries looks up from the same slot on. An attacker can compute them as well. */
export function stringsOfEqualHash(count: number): string[] {
  const dictionary = new Dictionary();
  const buffer = new ByteBuffer(16);
  const candidates = Array.from({ length: count * 3000 }, (_, index) => `name ${index}`);
  for (const candidate of candidates) {
    buffer.reset();
    buffer.ascii(candidate);
    dictionary.indexOf(buffer, 0, buffer.length);
  }
  const hashes: Int32Array = Reflect.get(dictionary, 'hashes');
  return candidates.filter((_, index) => (hashes[index] & 0x7ff) === (hashes[0] & 0x7ff)).slice(0, count);
}
