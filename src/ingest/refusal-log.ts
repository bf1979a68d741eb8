import type { IncomingHttpHeaders } from 'node:http';
import { Injectable, Logger } from '@nestjs/common';
import type { Refusal } from '../otlp/refusal.ts';
import { RequestCounts } from '../telemetry/request-counts.ts';

/** Maximum number of different refusals that are kept: some messages quote values of senders, so there may be any number. */
const MAX_RECENT = 20;
const MAX_MESSAGE_LENGTH = 200;
/** Refusals with the same message are logged as one warning, until there was none for this long. */
const SAME_WARNING_MS = 1_000;

/** A recent refusal, with the number of requests that got it. */
export interface RecentRefusal {
  readonly status: number;
  readonly message: string;
  readonly requests: number;
  /** `Date.now()` of the last one. */
  readonly lastAtMs: number;
}

/** A refusal, or several with the same message. */
export interface NewRefusal {
  readonly status: number;
  readonly message: string;
  readonly requests: number;
  /** The target and the request id of the last one, if known. */
  readonly targetId?: string;
  readonly requestId?: string;
}

/** Counts refused requests by status, and keeps the latest refusals for the status page. */
@Injectable()
export class RefusalLog {
  /** For local mode, where the operator is also the sender: refusals are logged as warnings. */
  asWarnings = false;
  private readonly logger = new Logger('Refusals');
  /** By message, the least recent first. */
  private readonly byMessage = new Map<string, RecentRefusal>();

  constructor(private readonly counts: RequestCounts) {}

  /**
   * Counts and logs a refusal.
   * @param headers the request's headers, if they were read
   * @param targetId the request's target, if it is known
   */
  add({ status, message }: Refusal, headers?: IncomingHttpHeaders, targetId?: string): void {
    this.counts.refusedByStatus[status]++;
    this.remember({ status, message: message.slice(0, MAX_MESSAGE_LENGTH), requests: 1, targetId, requestId: requestIdOf(headers) });
  }

  /** Keeps and logs a refusal. Replaced in ingest threads: the main thread does it. */
  remember: (refusal: NewRefusal) => void = ({ status, message, requests, ...details }) => {
    const before = this.byMessage.get(message);
    const lastAtMs = Date.now();
    this.byMessage.delete(message);
    this.byMessage.set(message, { status, message, requests: (before?.requests ?? 0) + requests, lastAtMs });
    if (this.byMessage.size > MAX_RECENT) this.byMessage.delete(this.byMessage.keys().next().value!);
    const isNews = before === undefined || lastAtMs - before.lastAtMs > SAME_WARNING_MS;
    this.logger[this.asWarnings && isNews ? 'warn' : 'debug']({ status, reason: message, ...details, msg: 'A request was refused' });
  };

  /** The kept refusals, the latest first. */
  get recent(): RecentRefusal[] {
    return [...this.byMessage.values()].toReversed();
  }
}

/** The request id that proxies set, and write to their own logs. */
function requestIdOf(headers: IncomingHttpHeaders | undefined): string | undefined {
  const id = headers?.['x-request-id'];
  return typeof id === 'string' ? id.slice(0, MAX_MESSAGE_LENGTH) : undefined;
}
