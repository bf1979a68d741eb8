import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Whether a server takes inserts. `connecting`: no probe has succeeded yet. `suspect`: one insert failed, which may be no more than a
 * broken connection. `down`: a probe or several inserts failed. `sinceMs` is a Unix time.
 */
export type AvailabilityState =
  | { readonly state: 'up' }
  | { readonly state: 'connecting' | 'suspect' | 'down'; readonly reason: string; readonly sinceMs: number };

const FIRST_DELAY_MS = 100;
/** Short: exporters drop spans that are refused for long (refusal.ts has the limits), and a probe is cheap. */
const MAX_DELAY_MS = 1_000;

/**
 * The state of one server. While it is unavailable, a single probe is repeated on behalf of all insert workers, with jittered
 * exponential backoff, until it succeeds. Only a successful insert resets the backoff, so that a server that answers probes but
 * refuses inserts is not overloaded.
 */
export class Availability {
  private readonly probe: () => Promise<void>;
  private current: AvailabilityState = { state: 'connecting', reason: 'not connected yet', sinceMs: Date.now() };
  private failures = 0;
  private probing: Promise<void> | undefined;
  private readonly stopping = new AbortController();

  /** @param probe resolves when ClickHouse is reachable and can take inserts; rejects with the reason if not */
  constructor(probe: () => Promise<void>) {
    this.probe = probe;
  }

  get status(): AvailabilityState {
    return this.current;
  }

  get isUp(): boolean {
    return this.current.state === 'up';
  }

  /** Whether the server is known to take no inserts. `suspect` does not count. */
  get isDown(): boolean {
    return this.current.state === 'down' || this.current.state === 'connecting';
  }

  /** Starts probing, unless a probe is already running. */
  start(): void {
    this.probing ??= this.probeUntilUp();
  }

  /** Resolves when the server is up. @throws Error when `stop` is called before that */
  async whenUp(): Promise<void> {
    while (!this.isUp) {
      this.stopping.signal.throwIfAborted();
      this.start();
      await this.probing;
    }
    this.stopping.signal.throwIfAborted();
  }

  /** Probes a server that is up, in the background. Only a failed probe changes the state. */
  check(): void {
    if (!this.isUp || this.probing !== undefined) return;
    this.probe().catch((error: Error) => this.insertFailed(error));
  }

  /** Reports a failed insert that will be retried. No insert is sent until a probe succeeds. */
  insertFailed(error: Error): void {
    this.down(error);
    this.probing ??= this.probeUntilUp();
  }

  /** Reports a successful insert: resets the backoff. */
  insertSucceeded(): void {
    this.failures = 0;
  }

  /** Ends probing; `whenUp` rejects from now on. */
  stop(): void {
    this.stopping.abort(new Error('the collector is shutting down'));
  }

  private async probeUntilUp(): Promise<void> {
    try {
      while (!this.isUp) {
        if (this.failures > 1) await sleep(this.delayMs(), undefined, { signal: this.stopping.signal });
        await this.probe().then(
          () => {
            this.current = { state: 'up' };
          },
          (error: Error) => this.down(error),
        );
        this.stopping.signal.throwIfAborted();
      }
    } catch (error) {
      if (!this.stopping.signal.aborted) throw error;
    } finally {
      this.probing = undefined;
    }
  }

  private down(error: Error): void {
    this.failures++;
    const state = this.failures === 1 && this.current.state === 'up' ? 'suspect' : 'down';
    const sinceMs = this.current.state === 'up' ? Date.now() : this.current.sinceMs;
    this.current = { state, reason: error.message, sinceMs };
  }

  /** The wait before the next probe. Half of it is random, so that many collectors do not reconnect at the same moment. */
  private delayMs(): number {
    const longest = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(this.failures - 2, 10));
    return longest / 2 + (Math.random() * longest) / 2;
  }
}
