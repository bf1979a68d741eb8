const WIDTH = 30;
const LINE_EVERY_SECONDS = 10;

/** A bar on a terminal; elsewhere a line every ten seconds, and one at the end. */
export function showProgress(stream: NodeJS.WriteStream, elapsed: number, seconds: number, text: string): void {
  const atEnd = elapsed >= seconds;
  const line = `${Math.floor(elapsed)} of ${seconds} s · ${text}`;
  if (stream.isTTY) {
    const done = Math.round((elapsed / seconds) * WIDTH);
    stream.write(`\r\x1b[K${'█'.repeat(done)}${'░'.repeat(WIDTH - done)} ${line}${atEnd ? '\n' : ''}`);
  } else if (atEnd || elapsed % LINE_EVERY_SECONDS === 0) stream.write(`${line}\n`);
}
