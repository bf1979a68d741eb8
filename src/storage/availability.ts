import { setTimeout as sleep } from 'node:timers/promises';

/** `suspect`: an insert failed, and it is not known yet whether it was more than a broken connection. */
export type AvailabilityState =
  | { readonly state: 'up' }
  | { readonly state: 'connecting' | 'suspect' | 'down'; readonly reason: string; readonly sinceMs: number };

const FIRST_DELAY_MS = 100;
/** Short: senders that are refused for long drop their spans (refusal.ts says after how long), and a probe costs little. */
const MAX_DELAY_MS = 1_000;

/**
 * Whether ClickHouse takes inserts. When it does not, one probe asks for all insert workers, with jittered exponential
 * backoff, until it does. Only an insert that succeeds resets the backoff: a server that answers probes and refuses
 * inserts is not hammered.
 */
export class Availability {
  private readonly probe: () => Promise<void>;
  private current: AvailabilityState = { state: 'connecting', reason: 'not connected yet', sinceMs: Date.now() };
  private failures = 0;
  private probing: Promise<void> | undefined;
  private readonly stopping = new AbortController();

  /** @param probe resolves when ClickHouse is there and fit for inserts, throws why it is not */
  constructor(probe: () => Promise<void>) {
    this.probe = probe;
  }

  get status(): AvailabilityState {
    return this.current;
  }

  get isUp(): boolean {
    return this.current.state === 'up';
  }

  /** Whether it is known to take no inserts. */
  get isDown(): boolean {
    return this.current.state === 'down' || this.current.state === 'connecting';
  }

  start(): void {
    this.probing ??= this.probeUntilUp();
  }

  /** Resolves when ClickHouse is there; rejects when `stop` is called before. */
  async whenUp(): Promise<void> {
    while (!this.isUp) {
      this.stopping.signal.throwIfAborted();
      this.start();
      await this.probing;
    }
    this.stopping.signal.throwIfAborted();
  }

  /** Asks a server that is up whether it still is. Only a probe that fails changes anything. */
  check(): void {
    if (!this.isUp || this.probing !== undefined) return;
    this.probe().catch((error: Error) => this.lost(error));
  }

  /** An insert failed and is to be sent again: nothing is sent until a probe succeeds. */
  lost(error: Error): void {
    this.down(error);
    this.probing ??= this.probeUntilUp();
  }

  /** An insert succeeded. */
  confirmed(): void {
    this.failures = 0;
  }

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

  /** Half of it is chance, so that a fleet of collectors does not come back all at once. */
  private delayMs(): number {
    const longest = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(this.failures - 2, 10));
    return longest / 2 + (Math.random() * longest) / 2;
  }
}
