import { once } from 'node:events';
import { connect } from 'node:net';

/** A connection that sends exactly what a test says, and nothing else. */
export interface RawSocket extends Disposable {
  write(text: string): void;
  /** The next answer: its status and its headers, as they came. @throws when the connection ends before */
  nextAnswer(): Promise<string>;
}

export async function connectRaw(url: string): Promise<RawSocket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  await once(socket, 'connect');
  let received = '';
  let ended = false;
  let onChange = Promise.withResolvers<void>();
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
      changed();
    });
  }
  return {
    write: (text) => void socket.write(text, 'latin1'),
    async nextAnswer() {
      for (;;) {
        const end = received.indexOf('\r\n\r\n');
        if (end >= 0) {
          const head = received.slice(0, end);
          received = received.slice(end + 4);
          return head;
        }
        if (ended) throw new Error(`the connection ended without an answer, after ${JSON.stringify(received)}`);
        await onChange.promise;
      }
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}
