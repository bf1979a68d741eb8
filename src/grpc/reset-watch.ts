import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';

/*
 * Calls that are begun and reset in one read of a connection ("rapid reset", CVE-2023-44487).
 *
 * Node's own limit (streamResetBurst) ends a connection only when all that has been read of it is parsed: 64 KB hold three hundred
 * calls, at 12 µs each without anything that is done with them. A session that is destroyed while a call begins is parsed no
 * further. So the calls that are reset are counted here, as calls begin.
 */

/** Of one connection. A sender that gives up many calls at the same moment may do so, if they have not just begun. */
export const MAX_RESETS = 16;
/** Of all connections together. */
const MAX_OF_ALL = 128;

interface Begun {
  tick: number;
  /** Calls of this tick that were not reset when they were last looked at. */
  open: ServerHttp2Stream[];
  resets: number;
}

/** Counts the calls that were reset in the tick of the event loop in which they began. */
export class ResetWatch {
  private readonly sessions = new WeakMap<ServerHttp2Session, Begun>();
  private tick = 0;
  private isInTick = false;
  private resets = 0;

  /**
   * To be asked for each call as it begins, before anything is done with it.
   * @returns whether the connection is to be ended: it has reset too many, or it resets while all together have
   */
  isTooMuch(session: ServerHttp2Session, stream: ServerHttp2Stream): boolean {
    const begun = this.begunIn(session);
    // Looked at once for each run of resets: calls that stay open cost nothing here.
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
