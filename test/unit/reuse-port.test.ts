import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { expect, test } from 'vitest';
import { isOff } from '../../src/runtime/internals.ts';
import { steerConnections } from '../../src/runtime/reuse-port.ts';

const CONNECTIONS = 60;

/** Opens connections. @returns how many each server got */
async function spreadOver(servers: readonly Server[]): Promise<readonly number[]> {
  const counts = servers.map(() => 0);
  const listeners = servers.map((server, at) => {
    const count = () => counts[at]++;
    server.on('connection', count);
    return () => server.off('connection', count);
  });
  const { port } = servers[0].address() as AddressInfo;
  await Promise.all(Array.from({ length: CONNECTIONS }, () => once(connect(port, '127.0.0.1').resume(), 'close')));
  for (const stop of listeners) stop();
  return counts;
}

async function listen(port: number): Promise<Server> {
  const server = createServer((socket) => socket.end());
  await once(server.listen({ port, host: '127.0.0.1', reusePort: true }), 'listening');
  return server;
}

test.skipIf(process.platform !== 'linux' || isOff('port-steering'))(
  'the kernel assigns new connections to some of the sockets of a port',
  async () => {
    const servers = [await listen(0)];
    const { port } = servers[0].address() as AddressInfo;
    for (let count = 1; count < 4; count++) servers.push(await listen(port));

    steerConnections(servers[0], [0]);
    expect(await spreadOver(servers)).toEqual([CONNECTIONS, 0, 0, 0]);
    steerConnections(servers[2], [1, 3]);
    const [first, second, third, fourth] = await spreadOver(servers);
    expect([first, third]).toEqual([0, 0]);
    expect(Math.min(second, fourth)).toBeGreaterThan(0);

    // The last one gets the number of one that is closed.
    const [closed] = servers.splice(1, 1);
    closed.close();
    steerConnections(servers[0], [1]);
    expect(await spreadOver(servers)).toEqual([0, 0, CONNECTIONS]);
    // A number without a socket: the kernel spreads connections over all.
    servers.pop()!.close();
    steerConnections(servers[0], [5]);
    expect((await spreadOver(servers)).every((count) => count > 0)).toBe(true);
    for (const server of servers) server.close();
  },
);
