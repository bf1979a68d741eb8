import { once } from 'node:events';
import { createServer, request as forward } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A proxy before ClickHouse that knows servers by the paths of its URL, and lets in who has the key. */
export interface PathProxy extends AsyncDisposable {
  /** The URL of the server at a path, with the key in its query. */
  url(path: string): string;
  /** Requests that were refused because the path or the key was missing. */
  readonly refused: number;
  /** Paths and queries of those that were let in, without the key. */
  readonly requests: readonly string[];
  /** Requests to this path arrive, and are not answered; undefined: all are. */
  cutAnswersOf(path: string | undefined): void;
}

/** @param servers by path: `/clickhouse` */
export async function startPathProxy(servers: Readonly<Record<string, { readonly url: string }>>, key: string): Promise<PathProxy> {
  const requests: string[] = [];
  let refused = 0;
  let cut: string | undefined;

  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, 'http://proxy');
    const target = Object.hasOwn(servers, pathname) ? servers[pathname] : undefined;
    if (target === undefined || searchParams.get('key') !== key) {
      refused++;
      request.resume();
      response.writeHead(403).end('No key, or no such path');
      return;
    }
    searchParams.delete('key');
    requests.push(`${pathname}?${searchParams.toString()}`);
    const upstream = forward(
      `${target.url}/?${searchParams.toString()}`,
      { method: request.method, headers: request.headers },
      (answer) => {
        if (cut === pathname) {
          response.destroy();
          return;
        }
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      },
    );
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    url: (path) => `http://127.0.0.1:${port}${path}?key=${encodeURIComponent(key)}`,
    get refused() {
      return refused;
    },
    requests,
    cutAnswersOf(path) {
      cut = path;
    },
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
