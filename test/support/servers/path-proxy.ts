import { once } from 'node:events';
import { createServer, request as forward } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A proxy in front of ClickHouse servers. The path of the URL selects the server, and the query must have the key. */
export interface PathProxy extends AsyncDisposable {
  /** The URL of the server at a path, with the key in its query. */
  url(path: string): string;
  /** Requests that were refused because the path or the key was missing. */
  readonly refused: number;
  /** Paths and queries of the requests that were passed on, without the key. */
  readonly requests: readonly string[];
  /** Requests to this path arrive, but their connections are closed without an answer; undefined: none. */
  cutAnswersOf(path: string | undefined): void;
}

/** Starts a proxy. @param servers by path: `/clickhouse` */
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
