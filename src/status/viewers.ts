import type { ServerResponse } from 'node:http';

/** Most open pages: each costs some memory, and CPU time each second. */
const MAX_VIEWERS = 8;
/** A page that has this many unread bytes is disconnected. An open page reconnects by itself. */
const MAX_UNREAD_BYTES = 4 * 1024 ** 2;

/** The open status pages: each is a response that stays open (server-sent events). */
export class Viewers {
  private readonly open = new Set<ServerResponse>();

  get isFull(): boolean {
    return this.open.size >= MAX_VIEWERS;
  }

  get isEmpty(): boolean {
    return this.open.size === 0;
  }

  /** Begins the event stream of a page. */
  add(response: ServerResponse): void {
    this.open.add(response);
    response.once('close', () => this.open.delete(response));
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    response.flushHeaders();
  }

  /** Sends an event to all pages, or to those of `to`. */
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
