import { once } from 'node:events';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { isOff } from '../../src/runtime/internals.ts';
import { readAsStream, type Reader, readReused } from '../../src/runtime/reused-reads.ts';

/* What comes over a connection goes where its reader wants it: held against the sockets of the Node that runs this. */

class Collecting implements Reader {
  readTarget: Buffer | undefined;
  readonly texts: string[] = [];
  readonly memories = new Set<ArrayBufferLike>();
  isEnough = false;

  read(bytes: Buffer): boolean {
    this.texts.push(bytes.toString());
    this.memories.add(bytes.buffer);
    return !this.isEnough;
  }
}

/** A connection that is read so, from both its ends. */
async function connected(reader: Reader): Promise<{ sender: Socket; receiver: Socket }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => expect(readReused(socket, reader)).toBe(true));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const accepted = once(server, 'connection');
  const sender = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [receiver] = (await accepted) as [Socket];
  onTestFinished(() => {
    sender.destroy();
    server.close();
  });
  return { sender, receiver };
}

test.skipIf(isOff('shared-reads'))('all connections are read into the same memory', async () => {
  const readers = [new Collecting(), new Collecting()];
  for (const reader of readers) {
    const { sender } = await connected(reader);
    for (const text of ['one', 'two']) {
      sender.write(text);
      await expect.poll(() => reader.texts.at(-1) === text).toBe(true);
    }
  }
  expect(readers[0].memories.size).toBe(1);
  expect(readers[1].memories).toEqual(readers[0].memories);
});

test.skipIf(isOff('shared-reads'))(
  'bytes go to the read target, as long as there is one, and no more of them at once than it holds',
  async () => {
    const reader = new Collecting();
    const { sender } = await connected(reader);
    reader.readTarget = Buffer.alloc(4);
    // Asked for after a read.
    sender.write('-');
    await expect.poll(() => reader.texts.length === 1).toBe(true);
    sender.write('abcdef');
    await expect.poll(() => reader.texts.join('') === '-abcdef').toBe(true);
    expect(reader.texts).toEqual(['-', 'abcd', 'ef']);
    expect(reader.readTarget.toString()).toBe('efcd');
    reader.readTarget = undefined;
    sender.write('g');
    await expect.poll(() => reader.texts.length === 4).toBe(true);
    sender.write('h');
    await expect.poll(() => reader.texts.length === 5).toBe(true);
    expect(reader.readTarget).toBeUndefined();
    expect(reader.memories.size).toBe(2);
  },
);

test.skipIf(isOff('shared-reads'))(
  'nothing comes while the connection is paused, or when its reader has enough, and the end comes after everything',
  async () => {
    const reader = new Collecting();
    const { sender, receiver } = await connected(reader);
    receiver.pause();
    sender.write('a');
    await delay(50);
    expect(reader.texts).toEqual([]);
    receiver.resume();
    await expect.poll(() => reader.texts.length === 1).toBe(true);
    reader.isEnough = true;
    sender.write('b');
    await expect.poll(() => reader.texts.length === 2).toBe(true);
    sender.write('c');
    await delay(50);
    expect(reader.texts).toEqual(['a', 'b']);
    reader.isEnough = false;
    receiver.resume();
    const ended = once(receiver, 'end');
    sender.end('d');
    await ended;
    expect(reader.texts.join('')).toBe('abcd');
  },
);

test.skipIf(isOff('shared-reads'))(
  'a connection that becomes a stream has the rest there, and nothing more goes to the last target',
  async () => {
    const reader = new Collecting();
    const { sender, receiver } = await connected(reader);
    reader.readTarget = Buffer.alloc(4);
    sender.write('-');
    await expect.poll(() => reader.texts.length === 1).toBe(true);
    readAsStream(receiver);
    const received: Buffer[] = [];
    receiver.on('data', (bytes: Buffer) => received.push(bytes));
    for (const text of ['one', 'two']) {
      sender.write(text);
      await expect.poll(() => received.at(-1)?.toString() === text).toBe(true);
    }
    expect(Buffer.concat(received).toString()).toBe('onetwo');
    expect(reader.texts).toEqual(['-']);
    expect(reader.readTarget).toEqual(Buffer.alloc(4));
  },
);

test('a socket that is no connection is read as ever', () => {
  expect(readReused(new Socket(), new Collecting())).toBe(false);
});
