import type { Config } from '../config/variables.ts';
import { ATTRIBUTES_COLUMNS } from '../transcode/columns/transcode-rules.ts';
import type { AvailabilityState } from './availability.ts';
import { Endpoint, type EndpointEvents } from './endpoint.ts';
import { NO_LIMITS, type TableLimits } from './table-limits.ts';

/**
 * Servers that are up are asked this often whether they still are: those that take no inserts, because one before them does;
 * and all of them, whether the table still keeps what it is given. ClickHouse converts without a word.
 */
const CHECK_INTERVAL_MS = 10_000;

/**
 * The servers of CLICKHOUSE_URL, in order of preference: inserts go to the first that is there. An insert that a server may
 * have stored already is sent again to whoever remembers its token (`Endpoint.deduplicationDomain`), and to nobody else.
 */
export class Endpoints {
  readonly all: readonly Endpoint[];
  private readonly timer: NodeJS.Timeout;

  constructor(config: Config, events: EndpointEvents) {
    this.all = config.CLICKHOUSE_URL.map((url) => new Endpoint(config, url, events));
    this.timer = setInterval(() => this.checkAll(), CHECK_INTERVAL_MS).unref();
  }

  /** Up while any server is; else the state of the first. */
  get status(): AvailabilityState {
    return this.firstUp(this.all)?.availability.status ?? this.all[0].availability.status;
  }

  get isUp(): boolean {
    return this.firstUp(this.all) !== undefined;
  }

  /** Whether all are known to take no inserts. */
  get isDown(): boolean {
    return this.all.every(({ availability }) => availability.isDown);
  }

  /** `textColumns` of all servers together, because each of them may get a block; `maxRowAgeMs` of the server that takes the inserts, or took them last. */
  get limits(): TableLimits {
    const current = this.firstUp(this.all) ?? this.all.find(({ isKnown }) => isKnown);
    const limits = this.all.map((endpoint) => endpoint.limits);
    return {
      textColumns: ATTRIBUTES_COLUMNS.filter((name) => limits.some(({ textColumns }) => textColumns.includes(name))),
      maxRowAgeMs: current?.limits.maxRowAgeMs ?? NO_LIMITS.maxRowAgeMs,
    };
  }

  start(): void {
    for (const { availability } of this.all) availability.start();
  }

  /** Resolves when a server is there; rejects when `close` is called before. */
  async whenUp(): Promise<void> {
    await this.ready(undefined);
  }

  /**
   * Resolves with the server that an insert is to be sent to, when it is there.
   * @param domain who may have stored the insert already (`Endpoint.deduplicationDomain`), if anybody may
   */
  async ready(domain: string | undefined): Promise<Endpoint> {
    for (;;) {
      const candidates = this.candidates(domain);
      const up = this.firstUp(candidates);
      if (up !== undefined) {
        // Rejects once the collector ends.
        await up.availability.whenUp();
        return up;
      }
      await Promise.any(candidates.map(({ availability }) => availability.whenUp())).catch((error: AggregateError) => {
        throw error.errors[0];
      });
    }
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await Promise.all(this.all.map((endpoint) => endpoint.close()));
  }

  /** Who is left out of CLICKHOUSE_URL is gone for good, with all it may have stored: then any server will do. */
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
