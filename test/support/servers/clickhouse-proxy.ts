import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';

/** A fault between a collector and its ClickHouse. */
export type Fault =
  /** The connection is closed when a request has begun. */
  | { readonly kind: 'cut request' }
  /** The request arrives; the connection is closed in place of the answer. */
  | { readonly kind: 'cut answer' }
  /** The request does not arrive, and nothing comes back. */
  | { readonly kind: 'stall' }
  /** The request arrives; nothing comes back. */
  | { readonly kind: 'hold answer' }
  /** The request arrives; its answer is delayed. */
  | { readonly kind: 'late answer'; readonly ms: number }
  /** These bytes are the answer, and the connection is closed. The request does not arrive. */
  | { readonly kind: 'answer'; readonly bytes: string }
  /** The request arrives with these parameters in its URL as well: `readonly=1`. */
  | { readonly kind: 'parameters'; readonly text: string }
  /** The request arrives as that of another user, without a password. */
  | { readonly kind: 'user'; readonly name: string };

/** The requests that a fault affects. */
export type Requests = 'all' | 'inserts' | 'inserts of lost rows' | 'searches';

/** A TCP proxy in front of a ClickHouse, at a port of 127.0.0.1. */
export interface ClickHouseProxy extends AsyncDisposable {
  readonly url: string;
  /** INSERT statements received, also those with a fault. */
  readonly inserts: number;
  /** Applies a fault to these requests from now on, `times` times. */
  fail(fault: Fault, requests?: Requests, times?: number): void;
  /** Removes the fault, and closes the connections that wait for an answer because of it. */
  restore(): void;
}

/** Starts a proxy. @param target its `url` may change at any time */
export async function startProxy(target: { readonly url: string }): Promise<ClickHouseProxy> {
  let fault: { readonly what: Fault; readonly requests: Requests; times: number } | undefined;
  let inserts = 0;
  const clients = new Set<Socket>();
  const hanging = new Set<Socket>();

  const server = createServer((client) => {
    const upstream = connect(Number(new URL(target.url).port), '127.0.0.1');
    let current: Fault | undefined;
    clients.add(client);
    const end = () => {
      clients.delete(client);
      hanging.delete(client);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
    client.on('data', (piece) => {
      const text = piece.toString('latin1', 0, 4_096);
      if (text.startsWith('POST ')) {
        const isInsert = text.includes('INSERT+INTO');
        if (isInsert) inserts++;
        const isAffected = fault !== undefined && fault.times > 0 && matches(fault.requests, isInsert, text);
        if (isAffected) fault!.times--;
        current = isAffected ? fault!.what : undefined;
      }
      switch (current?.kind) {
        case 'cut request':
          return end();
        case 'stall':
          return void hanging.add(client);
        case 'answer':
          return void client.end(current.bytes);
        case 'parameters':
          return void upstream.write(edited(piece, '/?', `/?${current.text}&`));
        case 'user':
          return void upstream.write(edited(piece, /\nauthorization: [^\r]+/i, `\nAuthorization: Basic ${btoa(`${current.name}:`)}`));
        case 'cut answer':
        case 'hold answer':
        case 'late answer':
        case undefined:
          upstream.write(piece);
      }
    });
    upstream.on('data', (piece) => {
      if (current?.kind === 'cut answer') return end();
      if (current?.kind === 'hold answer') return void hanging.add(client);
      if (current?.kind === 'late answer') return void setTimeout(() => client.write(piece), current.ms);
      client.write(piece);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get inserts() {
      return inserts;
    },
    fail(what, requests = 'inserts', times = Number.POSITIVE_INFINITY) {
      fault = { what, requests, times };
    },
    restore() {
      fault = undefined;
      for (const client of hanging) client.destroy();
    },
    async [Symbol.asyncDispose]() {
      server.close();
      for (const client of clients) client.destroy();
      await once(server, 'close');
    },
  };
}

function matches(requests: Requests, isInsert: boolean, text: string): boolean {
  if (requests === 'inserts of lost rows') return text.includes('+FROM+sent') && isInsert;
  if (requests === 'searches') return text.includes('+FROM+sent') && !isInsert;
  return isInsert || requests === 'all';
}

/** Replaces text in the head of a request. Other pieces are unchanged. */
function edited(piece: string | Buffer, from: string | RegExp, to: string): string | Buffer {
  const text = piece.toString('latin1');
  return text.startsWith('POST ') ? Buffer.from(text.replace(from, to), 'latin1') : piece;
}
