import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';

/*
 * Limits calls that start and are reset in the same read of a connection ("rapid reset", CVE-2023-44487).
 *
 * Node's own limit (streamResetBurst) closes a connection only after all data that was read is parsed: 64 KB hold three hundred calls,
 * at 12 µs each even if nothing is done with them. Parsing stops if the session is destroyed while a call starts. So resets are counted
 * here, each time a call starts.
 */

/** Resets per connection and tick. Only calls that start in the same tick count: a sender may cancel many older calls at once. */
export const MAX_RESETS = 16;
/** Resets per tick, over all connections. */
const MAX_OF_ALL = 128;

/** The calls of one connection in one tick. */
interface Begun {
  tick: number;
  /** Those that were not reset when last checked. */
  open: ServerHttp2Stream[];
  resets: number;
}

/** Counts the calls that are reset in the same tick of the event loop in which they start. */
export class ResetWatch {
  private readonly sessions = new WeakMap<ServerHttp2Session, Begun>();
  private tick = 0;
  private isInTick = false;
  private resets = 0;

  /**
   * Counts a call. Must be called for each call when it starts, before anything else is done with it.
   * @returns whether the connection must be closed: its resets exceed the limit, or it has resets while those of all connections do
   */
  isTooMuch(session: ServerHttp2Session, stream: ServerHttp2Stream): boolean {
    const begun = this.begunIn(session);
    // Counted once for each run of resets: calls that stay open cost nothing here.
    if (begun.open.at(-1)?.closed === true) this.count(begun);
    begun.open.push(stream);
    return begun.resets > MAX_RESETS || (begun.resets > 0 && this.resets > MAX_OF_ALL);
  }

  private begunIn(session: ServerHttp2Session): Begun {
    if (!this.isInTick) this.beginTick();
    const { tick } = this;
    let begun = this.sessions.get(session);
    if (begun?.tick !== tick) {
      begun = { tick, open: [], resets: 0 };
      this.sessions.set(session, begun);
    }
    return begun;
  }

  private count(begun: Begun): void {
    const open = begun.open.filter(({ closed }) => !closed);
    const reset = begun.open.length - open.length;
    begun.open = open;
    begun.resets += reset;
    this.resets += reset;
  }

  private beginTick(): void {
    this.isInTick = true;
    this.tick++;
    this.resets = 0;
    setImmediate(() => (this.isInTick = false));
  }
}
