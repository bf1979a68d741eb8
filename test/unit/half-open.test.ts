import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { PortServer } from '../../src/http/port-server.ts';

test('a client that closes its sending side after its request gets the answer, also when that comes later', async () => {
  const { server } = new PortServer('otlp', (request, response) => {
    request.resume().once('end', () => setTimeout(() => response.end('stored'), 50));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
  socket.end('POST / HTTP/1.1\r\nHost: collector\r\nContent-Length: 1\r\n\r\n!');

  expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*stored/);
  server.close();
});
