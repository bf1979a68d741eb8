import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { PortServer } from '../../src/http/port-server.ts';
import { isOff } from '../../src/runtime/internals.ts';
import { stopParsing } from '../../src/runtime/stop-parsing.ts';

/* What has been read of a connection that nobody wants any more costs nothing: held against the parser of the Node that runs this. */

const REQUEST = 'POST / HTTP/1.1\r\nHost: collector\r\nContent-Length: 1\r\n\r\n!';
const CHUNKED = 'POST / HTTP/1.1\r\nHost: collector\r\nTransfer-Encoding: chunked\r\n\r\n';

/** Sends `bytes` in one write to a server of these requests, over each of so many connections in turn. Resolves when the last is closed. */
async function serve(listener: RequestListener, bytes: string, connections = 1): Promise<void> {
  const { server } = new PortServer('otlp', listener);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  for (let count = 0; count < connections; count++) {
    const socket: Socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket
      .on('error', () => {})
      .resume()
      .write(bytes);
    await once(socket, 'close');
  }
  server.close();
}

test.skipIf(isOff('parser-stop'))('of five hundred requests sent at once, Node makes hardly any: the connection is cut', async () => {
  let made = 0;
  const count = () => void made++;
  subscribe('http.server.request.start', count);
  await serve((_, response) => response.end(), REQUEST.repeat(500));
  unsubscribe('http.server.request.start', count);

  expect(made).toBeGreaterThan(0);
  expect(made).toBeLessThan(50);
});

test.skipIf(isOff('parser-stop'))(
  'no request is made of what was read after a body that is refused; the next connection, with the same parser, has all of its own',
  async () => {
    let made = 0;
    const count = () => void made++;
    const chunks: number[] = [];
    const listener: RequestListener = (request, response) => {
      const index = chunks.push(0) - 1;
      request.on('data', () => {
        if (++chunks[index] === 10 && index === 0) stopParsing(request.socket);
      });
      request.on('end', () => response.writeHead(200, { connection: index === 1 ? 'keep-alive' : 'close' }).end());
    };
    subscribe('http.server.request.start', count);
    await serve(listener, `${CHUNKED}${'1\r\n \r\n'.repeat(1_000)}0\r\n\r\n${REQUEST}`, 2);
    unsubscribe('http.server.request.start', count);

    const [, ...ofTheSecond] = chunks;
    expect(ofTheSecond).toEqual([1_000, 1]);
    expect(made).toBe(3);
  },
);

test('hundreds of requests behind one whose body has been read are dropped, and that one is answered', async () => {
  let made = 0;
  const count = () => void made++;
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  const read = Promise.withResolvers<() => void>();
  let handled = 0;
  const { server } = new PortServer('otlp', (request, response) => {
    handled++;
    request.resume().once('end', () => read.resolve(() => response.end('first')));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').setEncoding('latin1');
  let answers = '';
  socket.on('data', (text: string) => (answers += text));
  socket.write(REQUEST);
  const answer = await read.promise;
  subscribe('http.server.request.start', count);
  process.on('warning', warned);
  socket.write(REQUEST.repeat(500));
  await expect.poll(() => made).toBeGreaterThan(0);
  await delay(50);
  answer();
  await once(socket, 'close');
  unsubscribe('http.server.request.start', count);
  process.off('warning', warned);
  server.close();

  expect(answers).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(answers.match(/HTTP\/1\.1/g)).toHaveLength(1);
  expect(handled).toBe(1);
  expect(warnings).toEqual([]);
});
