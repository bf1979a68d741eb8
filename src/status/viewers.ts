import type { ServerResponse } from 'node:http';

/** Each costs some memory and a little work a second. */
const MAX_VIEWERS = 8;
/** Who reads so slowly that this much has gathered is cut off, and comes back if somebody still looks. */
const MAX_UNREAD_BYTES = 4 * 1024 ** 2;

/** The pages that are open: each an answer that does not end (server-sent events). */
export class Viewers {
  private readonly open = new Set<ServerResponse>();

  get isFull(): boolean {
    return this.open.size >= MAX_VIEWERS;
  }

  get isEmpty(): boolean {
    return this.open.size === 0;
  }

  add(response: ServerResponse): void {
    this.open.add(response);
    response.once('close', () => this.open.delete(response));
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    response.flushHeaders();
  }

  /** Sends an event to all, or to one of them. */
  send(event: string, data: unknown, to: Iterable<ServerResponse> = this.open): void {
    const text = `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
    for (const response of to) {
      if (response.writableLength > MAX_UNREAD_BYTES) response.destroy();
      else response.write(text);
    }
  }

  close(): void {
    for (const response of this.open) response.end();
  }
}
