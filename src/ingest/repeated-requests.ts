import { createHash, hash } from 'node:crypto';
import { setImmediate as nextTick } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import type { Accepted } from '../blocks/open-block.ts';
import type { Body } from '../bodies/request-body.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { BlockSink } from '../queue/block-queue.ts';
import { EarlierRequests } from './unstored-requests.ts';

/**
 * Bytes of bodies that are hashed per second while inserts are quick: 0.5 µs per KB and 1.5 µs per body, less than 0.3 % of a processor.
 * Above this load, requests just before inserts become slow are not hashed, and not recognized when they are repeated.
 */
const HASHED_BYTES_PER_SECOND = 2 * 1024 ** 2;
/** A shorter body counts as this many bytes: adding a request to the map takes as long as hashing them. */
const LEAST_BYTES = 4 * 1024;
/** Bytes that are hashed in one tick of the event loop: half a millisecond's work. */
const SLICE_BYTES = 1024 * 1024;

/** Recognizes requests that repeat an earlier one, by target, encoding and the SHA-256 of the body. */
@Injectable()
export class RepeatedRequests {
  private readonly queue: BlockSink;
  private readonly isOn: boolean;
  private readonly earlier: EarlierRequests;
  private secondBeganAtMs = Number.NEGATIVE_INFINITY;
  private hashedBytes = 0;

  constructor(@Inject(collectorConfig.KEY) config: Config, queue: BlockSink, earlier: EarlierRequests) {
    this.earlier = earlier;
    this.queue = queue;
    this.isOn = config.JOIN_REPEATED_REQUESTS && config.ACK_MODE === 'durable';
  }

  /**
   * Returns the spans of a request: those of an earlier request that it repeats, or the result of `transcode`. In the first case it frees
   * the body; in the second, `transcode` does.
   * @throws the errors of `transcode`
   */
  take(body: Body, encoding: Encoding, targetId: string, transcode: () => Accepted | Promise<Accepted>): Accepted | Promise<Accepted> {
    if (!this.isOn || !this.isHashed(body.length)) return transcode();
    const identity = `${encoding} ${targetId}\n`;
    if (body.length > SLICE_BYTES) return digestInSlices(body).then((digest) => this.joinOr(identity + digest, body, transcode));
    return this.joinOr(identity + digestOf(body), body, transcode);
  }

  /** Whether a body is hashed: while many inserts are confirmed quickly, requests are hardly ever repeated. */
  private isHashed(bytes: number): boolean {
    if (this.queue.isDurableAtOnce) return false;
    if (!this.queue.isQuick) return true;
    const nowMs = performance.now();
    if (nowMs - this.secondBeganAtMs > 1_000) {
      this.secondBeganAtMs = nowMs;
      this.hashedBytes = 0;
    }
    if (this.hashedBytes >= HASHED_BYTES_PER_SECOND) return false;
    this.hashedBytes += Math.max(bytes, LEAST_BYTES);
    return true;
  }

  private joinOr(identity: string, body: Body, transcode: () => Accepted | Promise<Accepted>): Accepted | Promise<Accepted> {
    const found = this.earlier.join(identity);
    const joinedOr = (joined: Accepted | undefined) =>
      joined === undefined ? this.asFirst(identity, transcode) : replaceBody(joined, body);
    return found instanceof Promise ? found.then(joinedOr) : joinedOr(found);
  }

  private asFirst(identity: string, transcode: () => Accepted | Promise<Accepted>): Accepted | Promise<Accepted> {
    const transcoded = transcode();
    const add = (accepted: Accepted) => {
      this.earlier.add(identity, accepted);
      return accepted;
    };
    return transcoded instanceof Promise ? transcoded.then(add) : add(transcoded);
  }
}

/** Frees `body`, and returns the spans of the earlier request. */
function replaceBody(joined: Accepted, body: Body): Accepted {
  body.free();
  body.memory.releaseBody();
  return joined;
}

function digestOf({ chunks }: Body): string {
  if (chunks.length === 1) return hash('sha256', chunks[0], 'latin1');
  const sha256 = createHash('sha256');
  for (const chunk of chunks) sha256.update(chunk);
  return sha256.digest('latin1');
}

async function digestInSlices({ chunks }: Body): Promise<string> {
  const sha256 = createHash('sha256');
  let bytes = 0;
  for (const chunk of chunks) {
    sha256.update(chunk);
    bytes += chunk.length;
    if (bytes < SLICE_BYTES) continue;
    bytes = 0;
    await nextTick();
  }
  return sha256.digest('latin1');
}
