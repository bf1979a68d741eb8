import type { IncomingHttpHeaders } from 'node:http';
import { Injectable, Logger } from '@nestjs/common';
import type { Refusal } from '../otlp/refusal.ts';
import { RequestCounts } from '../telemetry/request-counts.ts';

/** Different refusals remembered. A sender's own words are in some: there may be any number. */
const MAX_RECENT = 20;
const MAX_MESSAGE_LENGTH = 200;
/** As a warning, what is refused again and again for the same reason is logged only once, until it has paused for so long. */
const NEWS_AFTER_MS = 1_000;

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
  /** Of the last one, where they are known. */
  readonly targetId?: string;
  readonly requestId?: string;
}

/** Keeps count of the requests that are refused, and remembers what the last ones were told. */
@Injectable()
export class RefusalLog {
  /** For local mode, where the sender and the operator are one: refusals are warnings in the log. */
  asWarnings = false;
  private readonly logger = new Logger('Refusals');
  /** By message, the least recent first. */
  private readonly byMessage = new Map<string, RecentRefusal>();

  constructor(private readonly counts: RequestCounts) {}

  /**
   * @param headers of the request, where it got as far as that
   * @param targetId whose request it is, where that is known
   */
  add({ status, message }: Refusal, headers?: IncomingHttpHeaders, targetId?: string): void {
    this.counts.refusedByStatus[status]++;
    this.remember({ status, message: message.slice(0, MAX_MESSAGE_LENGTH), requests: 1, targetId, requestId: requestIdOf(headers) });
  }

  /** Remembers and logs a refusal. Replaced where another thread does that. */
  remember: (refusal: NewRefusal) => void = ({ status, message, requests, ...details }) => {
    const before = this.byMessage.get(message);
    const lastAtMs = Date.now();
    this.byMessage.delete(message);
    this.byMessage.set(message, { status, message, requests: (before?.requests ?? 0) + requests, lastAtMs });
    if (this.byMessage.size > MAX_RECENT) this.byMessage.delete(this.byMessage.keys().next().value!);
    const isNews = before === undefined || lastAtMs - before.lastAtMs > NEWS_AFTER_MS;
    this.logger[this.asWarnings && isNews ? 'warn' : 'debug']({ status, reason: message, ...details, msg: 'A request was refused' });
  };

  /** The last one first. */
  get recent(): RecentRefusal[] {
    return [...this.byMessage.values()].toReversed();
  }
}

/** As the proxies in front have it: the same is in their logs. */
function requestIdOf(headers: IncomingHttpHeaders | undefined): string | undefined {
  const id = headers?.['x-request-id'];
  return typeof id === 'string' ? id.slice(0, MAX_MESSAGE_LENGTH) : undefined;
}
