import { env } from 'node:process';
import { parentPort, workerData } from 'node:worker_threads';
import { Channel } from '../../src/threads/channel.ts';
import type { MainMethods, ThreadData, ThreadMethods } from '../../src/threads/messages.ts';
import { SharedMemory } from '../../src/threads/shared-memory.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../../test/support/generators/payloads.ts';

/*
 * In place of an ingest thread (bench/main-thread.ts): it pushes the same block again and again, without receiving and transcoding requests
 * for it. So few of them keep the main thread busy.
 */

/** The blocks that are pushed, in the variable PUSHED_BLOCKS, as JSON. */
export interface PushedBlocks {
  readonly encoding: 'json' | 'protobuf';
  readonly spansPerRequest: number;
  readonly requestsPerBlock: number;
  /** Each is pushed when the one before it is durable. */
  readonly blocksAtOnce: number;
  /** How long blocks are pushed, from the start of the port on. */
  readonly seconds: number;
}

if (parentPort !== null) serve(parentPort);

function serve(port: NonNullable<typeof parentPort>): void {
  const blocks = JSON.parse(env.PUSHED_BLOCKS!) as PushedBlocks;
  const { buffers, slot } = workerData as ThreadData;
  const memory = new SharedMemory(buffers, slot);
  const main = new Channel<MainMethods, ThreadMethods>(port);
  const { frame, rows } = block(blocks);
  let number = 0;

  async function push(untilMs: number): Promise<void> {
    while (performance.now() < untilMs) {
      const copy = new Uint8Array(frame);
      memory.pushed(copy.length);
      await main.call('push', { number: ++number, frame: copy, rows }, [copy.buffer]);
    }
  }

  main.answerWith({
    async listen() {
      const untilMs = performance.now() + blocks.seconds * 1000;
      for (let at = 0; at < blocks.blocksAtOnce; at++) void push(untilMs);
    },
    seal() {},
    limits() {},
    endConnections() {},
    standby() {},
    steer() {},
    async close() {},
    async stop() {},
  });
  port.on('message', (packets: Parameters<typeof main.receive>[0]) => main.receive(packets));
  main.tell('prepared', undefined);
}

function block({ encoding, spansPerRequest: spans, requestsPerBlock }: PushedBlocks): { frame: Buffer; rows: number } {
  const encoder = new BlockEncoder('hive');
  const payload = encoding === 'json' ? hiveGatewayBatch : gatewayProtobuf;
  for (let seed = 0; seed < requestsPerBlock; seed++) encoder.add([payload({ spans, seed }).body], encoding, 'target-1');
  return encoder.seal();
}
