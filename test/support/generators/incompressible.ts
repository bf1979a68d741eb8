import { randomBytes } from 'node:crypto';
import { encodeRequest } from '../oracle/otlp-request.ts';

/** A Protobuf request with one span that has `kilobytes` × 512 random bytes, which do not compress. */
export function incompressible(kilobytes: number): Uint8Array {
  const span = {
    traceId: randomBytes(16),
    spanId: randomBytes(8),
    startTimeUnixNano: BigInt(Date.now()) * 1_000_000n,
    attributes: [{ key: 'noise', value: { bytesValue: randomBytes(kilobytes * 512) } }],
    events: [],
    links: [],
  };
  return encodeRequest({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] });
}
