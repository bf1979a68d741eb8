import { once } from 'node:events';
import { createServer, type ListenOptions, type Server } from 'node:net';

/** What this process has reserved, without Linux. */
const reserved = new Set<number>();

/**
 * Free ports of 127.0.0.1, below the range of outgoing connections. They are reserved until this process ends: nobody else gets them from
 * here, also while the server on one is started again.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    // Reserved first: isFree listens for a moment, which must not get in the way of a server whose test has reserved the port.
    if ((await reserve(port)) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

async function isFree(port: number): Promise<boolean> {
  const server = await listen({ port, host: '127.0.0.1' });
  if (server === undefined) return false;
  server.close();
  await once(server, 'close');
  return true;
}

/** Reserves a port among processes: a name in Linux's abstract namespace for sockets can be had once, and ends with its process. */
async function reserve(port: number): Promise<boolean> {
  if (process.platform === 'linux') return (await listen({ path: `\0hive-otel-trace-collector-port-${port}` })) !== undefined;
  const isNew = !reserved.has(port);
  reserved.add(port);
  return isNew;
}

async function listen(options: ListenOptions): Promise<Server | undefined> {
  const server = createServer().unref();
  server.listen(options);
  try {
    await once(server, 'listening');
    return server;
  } catch {
    return undefined;
  }
}
