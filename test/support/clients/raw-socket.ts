import { once } from 'node:events';
import { connect } from 'node:net';
import type { Answer } from './otlp-client.ts';

/** A TCP connection that sends exactly what a test writes. */
export interface RawSocket extends Disposable {
  write(bytes: string | Uint8Array): void;
  /** Ends the sending side. Answers are still received. */
  end(): void;
  /** The head of the next answer: status line and headers. @throws Error when the connection ends before it */
  nextAnswer(): Promise<string>;
  /** The next answer with its body, by its Content-Length. @throws Error when the connection ends before its end */
  nextWholeAnswer(): Promise<Answer>;
  /** Resolves when the server has closed the connection, with all text that was not read as an answer. */
  readonly closed: Promise<string>;
}

/** Opens a connection to the host and port of a URL. */
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
  /** Reads until `end`, and `length` bytes after it. */
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

/** The head of a request. A header with a list of values is sent once for each. */
export function head(headers: Readonly<Record<string, string | readonly string[]>>, path = '/v1/traces', method = 'POST'): string {
  const lines = Object.entries({ host: 'collector', ...headers }).flatMap(([name, value]) =>
    [value].flat().map((one) => `${name}: ${one}\r\n`),
  );
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}
