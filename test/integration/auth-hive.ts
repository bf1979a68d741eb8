import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type RequestListener, type ServerResponse } from 'node:http';
import { loadConfig } from '../../src/config/load-config.ts';
import type { Config } from '../../src/config/variables.ts';

/** Hive's auth endpoint as a test wants it, over real HTTP. */
export interface Hive extends AsyncDisposable {
  readonly url: string;
  /** Headers of every request so far. */
  readonly asked: IncomingHttpHeaders[];
  answer: RequestListener;
}

export async function startHive(answer: RequestListener): Promise<Hive> {
  const asked: IncomingHttpHeaders[] = [];
  const server = createServer((request, response) => {
    asked.push(request.headers);
    hive.answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  const hive: Hive = {
    url: `http://127.0.0.1:${address.port}/otel-auth`,
    asked,
    answer,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  return hive;
}

export function json(status: number, body: unknown): RequestListener {
  return (_, response) => send(response, status, JSON.stringify(body));
}

export function raw(status: number, body: string, headers: Record<string, string> = {}): RequestListener {
  return (_, response) => send(response, status, body, headers);
}

export function after(delayMs: number, answer: RequestListener): RequestListener {
  return (request, response) => void setTimeout(answer, delayMs, request, response);
}

/** The socket dies without an answer. */
export const hangUp: RequestListener = (request) => void request.socket.destroy();

export const accept = json(200, { targetId: 'target-1' });

function send(response: ServerResponse, status: number, body: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(body);
}

/** The real defaults, save what the test sets. */
export function configFor(hive: Pick<Hive, 'url'>, changes: Partial<Record<keyof Config, string>> = {}): Config {
  return loadConfig({ CLICKHOUSE_URL: 'http://127.0.0.1:8123', HIVE_OTEL_AUTH_ENDPOINT: hive.url, ...changes });
}
