import { once } from 'node:events';
import { connect } from 'node:net';
import type { Answer } from './otlp-client.ts';

/** A connection that sends exactly what a test says, and nothing else. */
export interface RawSocket extends Disposable {
  write(bytes: string | Uint8Array): void;
  /** Ends its sending side, and goes on listening. */
  end(): void;
  /** The next answer: its status and its headers, as they came. @throws when the connection ends before */
  nextAnswer(): Promise<string>;
  /** The next answer with its body, whose length it must say. @throws likewise */
  nextWholeAnswer(): Promise<Answer>;
  /** Resolves when the other side has closed the connection, with what came that no answer has taken. */
  readonly closed: Promise<string>;
}

export async function connectRaw(url: string): Promise<RawSocket> {
  const { hostname, port } = new URL(url);
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
  await once(socket, 'connect');
  let received = '';
  let ended = false;
  let onChange = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  const changed = () => {
    onChange.resolve();
    onChange = Promise.withResolvers();
  };
  socket.setEncoding('latin1').on('data', (text: string) => {
    received += text;
    changed();
  });
  for (const event of ['end', 'close', 'error']) {
    socket.on(event, () => {
      ended = true;
      closed.resolve();
      changed();
    });
  }
  /** Takes what comes before and with `end`, and `length` bytes after it. */
  async function take(end: string, length = 0): Promise<string> {
    for (;;) {
      const at = received.indexOf(end);
      if (at >= 0 && received.length >= at + end.length + length) {
        const taken = received.slice(0, at + end.length + length);
        received = received.slice(taken.length);
        return taken;
      }
      if (ended) throw new Error(`the connection ended without an answer, after ${JSON.stringify(received)}`);
      await onChange.promise;
    }
  }
  async function nextAnswer(): Promise<string> {
    return (await take('\r\n\r\n')).slice(0, -4);
  }
  return {
    write: (bytes) => void (typeof bytes === 'string' ? socket.write(bytes, 'latin1') : socket.write(bytes)),
    end: () => void socket.end(),
    nextAnswer,
    async nextWholeAnswer() {
      const [statusLine = '', ...lines] = (await nextAnswer()).split('\r\n');
      const headers = Object.fromEntries(
        lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
      );
      const body = Buffer.from(await take('', Number(headers['content-length'] ?? 0)), 'latin1');
      return { status: Number(statusLine.split(' ')[1]), headers, body, reusedSocket: false };
    },
    closed: closed.promise.then(() => received),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

/** The head of a POST. A header that is a list comes as often. */
export function head(headers: Readonly<Record<string, string | readonly string[]>>, path = '/v1/traces', method = 'POST'): string {
  const lines = Object.entries({ host: 'collector', ...headers }).flatMap(([name, value]) =>
    [value].flat().map((one) => `${name}: ${one}\r\n`),
  );
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}
