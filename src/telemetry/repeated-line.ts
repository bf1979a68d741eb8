import type { Logger } from '@nestjs/common';

const INTERVAL_MS = 10_000;

/**
 * One line of the log that may come again and again: at once the first time, then every ten seconds at most, with the
 * number of times that it stands for.
 */
export class RepeatedLine {
  private readonly logger: Logger;
  private readonly level: 'warn' | 'error';
  private readonly sentence: string;
  private readonly intervalMs: number;
  private timer: NodeJS.Timeout | undefined;
  private times = 0;
  private latest: object = {};

  constructor(logger: Logger, level: 'warn' | 'error', sentence: string, intervalMs = INTERVAL_MS) {
    this.logger = logger;
    this.level = level;
    this.sentence = sentence;
    this.intervalMs = intervalMs;
  }

  /** @param details of this time; of those that are written as one line, the last ones are */
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
