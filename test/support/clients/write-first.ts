import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Sends a request as a blocking client does: it reads nothing before it has written the whole request.
 * @param pauseMs between the pieces of the body
 * @returns the status of the answer; or the code of the error when writing or reading failed
 */
export async function writeFirst(url: string, head: string, pieces: Iterable<Uint8Array | string>, pauseMs = 0): Promise<string> {
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true }).pause();
  const failed = Promise.withResolvers<string>();
  socket.on('error', ({ code, message }: NodeJS.ErrnoException) => failed.resolve(code ?? message));
  return Promise.race([failed.promise, writeThenRead()]).finally(() => socket.destroy());

  async function writeThenRead(): Promise<string> {
    await written(head);
    for (const piece of pieces) {
      if (pauseMs > 0) await delay(pauseMs);
      await written(piece);
    }
    let answer = '';
    for await (const data of socket.setEncoding('latin1')) answer += data;
    return /^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 'nothing';
  }

  function written(bytes: Uint8Array | string): Promise<void> {
    // The event 'error' reports a write that fails.
    return new Promise((resolve) => void socket.write(bytes, (error) => error ?? resolve()));
  }
}
