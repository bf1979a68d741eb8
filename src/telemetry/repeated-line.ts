import type { Logger } from '@nestjs/common';

const INTERVAL_MS = 10_000;

/**
 * A log line with a rate limit: it is written at once the first time, then at most once per interval, with the number of calls since the
 * last line (`times`).
 */
export class RepeatedLine {
  private readonly logger: Logger;
  private readonly level: 'warn' | 'error';
  private readonly sentence: string;
  private readonly intervalMs: number;
  private timer: NodeJS.Timeout | undefined;
  private times = 0;
  private latest: object = {};

  /** @param intervalMs least time between two lines; 10 s by default */
  constructor(logger: Logger, level: 'warn' | 'error', sentence: string, intervalMs = INTERVAL_MS) {
    this.logger = logger;
    this.level = level;
    this.sentence = sentence;
    this.intervalMs = intervalMs;
  }

  /** Logs the line, now or later. @param details fields of the line. When several times become one line, the latest are logged */
  write(details: object): void {
    this.times++;
    this.latest = details;
    if (this.timer === undefined) this.flush();
  }

  private flush(): void {
    if (this.times === 0) {
      this.timer = undefined;
      return;
    }
    this.logger[this.level]({ ...this.latest, ...(this.times > 1 && { times: this.times }), msg: this.sentence });
    this.times = 0;
    this.timer = setTimeout(() => this.flush(), this.intervalMs).unref();
  }
}
