import type { Config } from '../config/variables.ts';
import { ATTRIBUTES_COLUMNS } from '../transcode/columns/transcode-rules.ts';
import type { AvailabilityState } from './availability.ts';
import { Endpoint, type EndpointEvents } from './endpoint.ts';
import { NO_LIMITS, type TableLimits } from '../transcode/columns/table-limits.ts';

/**
 * How often servers that are up are probed. It notices a standby server that went down, and a table that was altered so that
 * ClickHouse would silently convert what is inserted.
 */
const CHECK_INTERVAL_MS = 10_000;

/**
 * The servers of CLICKHOUSE_URL, in order of preference: inserts go to the first one that is up. An insert that may be stored
 * already is retried only within the deduplication domain that it was sent to (`Endpoint.deduplicationDomain`).
 */
export class Endpoints {
  readonly all: readonly Endpoint[];
  private readonly timer: NodeJS.Timeout;

  constructor(config: Config, events: EndpointEvents = {}) {
    this.all = config.CLICKHOUSE_URL.map((url) => new Endpoint(config, url, events));
    this.timer = setInterval(() => this.checkAll(), CHECK_INTERVAL_MS).unref();
  }

  /** The state of the first server that is up; if none is, the state of the first in the list. */
  get status(): AvailabilityState {
    return this.firstUp(this.all)?.availability.status ?? this.all[0].availability.status;
  }

  /** Whether any server is up. */
  get isUp(): boolean {
    return this.firstUp(this.all) !== undefined;
  }

  /** Whether all servers are known to take no inserts. */
  get isDown(): boolean {
    return this.all.every(({ availability }) => availability.isDown);
  }

  /**
   * `textColumns` of all servers together, because each of them may get a block; `maxRowAgeMs` of the server that takes the inserts, or
   * took them last.
   */
  get limits(): TableLimits {
    const current = this.firstUp(this.all) ?? this.all.find(({ isKnown }) => isKnown);
    const limits = this.all.map((endpoint) => endpoint.limits);
    return {
      textColumns: ATTRIBUTES_COLUMNS.filter((name) => limits.some(({ textColumns }) => textColumns.includes(name))),
      maxRowAgeMs: current?.limits.maxRowAgeMs ?? NO_LIMITS.maxRowAgeMs,
    };
  }

  /** Starts probing all servers. */
  start(): void {
    for (const { availability } of this.all) availability.start();
  }

  /** Resolves when any server is up. @throws Error when `close` is called before that */
  async whenUp(): Promise<void> {
    await this.ready(undefined);
  }

  /**
   * Resolves with the server that an insert must be sent to, once it is up.
   * @param domain the `Endpoint.deduplicationDomain` that may have stored the insert already; undefined if none may
   * @throws Error when `close` is called before that
   */
  async ready(domain: string | undefined): Promise<Endpoint> {
    for (;;) {
      const candidates = this.candidates(domain);
      const up = this.firstUp(candidates);
      if (up !== undefined) {
        // Rejects when the collector is shutting down.
        await up.availability.whenUp();
        return up;
      }
      await Promise.any(candidates.map(({ availability }) => availability.whenUp())).catch((error: AggregateError) => {
        throw error.errors[0];
      });
    }
  }

  /** Ends all probes and closes all clients. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    await Promise.all(this.all.map((endpoint) => endpoint.close()));
  }

  /**
   * The servers that an insert may be sent to. A server that is no longer in CLICKHOUSE_URL counts as gone, with all its rows: an
   * insert that it may have stored goes to any other.
   */
  private candidates(domain: string | undefined): readonly Endpoint[] {
    if (domain === undefined) return this.all;
    const inSameDomain = this.all.filter((endpoint) => endpoint.name === domain || endpoint.deduplicationDomain === domain);
    if (inSameDomain.length > 0) return inSameDomain;
    const possible = isServer(domain) ? [] : this.all.filter(({ isKnown }) => !isKnown);
    return possible.length > 0 ? possible : this.all;
  }

  private firstUp(endpoints: readonly Endpoint[]): Endpoint | undefined {
    return endpoints.find(({ availability }) => availability.isUp);
  }

  private checkAll(): void {
    for (const { availability } of this.all) availability.check();
  }
}

function isServer(domain: string): boolean {
  return domain.startsWith('http');
}
