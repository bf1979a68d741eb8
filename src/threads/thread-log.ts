import type { LoggerService } from '@nestjs/common';
import type { Config } from '../config/variables.ts';
import type { MainThread } from './main-thread.ts';
import type { LogLine } from './messages.ts';

/** Nest's names of the levels, from the highest. */
const LEVELS = ['fatal', 'error', 'warn', 'log', 'debug', 'verbose'] as const;
const CONFIGURED = { fatal: 0, error: 1, warn: 2, info: 3, debug: 4, trace: 5, silent: -1 } as const;

/** Makes a logger that sends its lines to the main thread. @param thread the number of this thread, in each line as `thread` */
export function threadLog(main: MainThread, { LOG_LEVEL }: Config, thread: number): LoggerService {
  const lowest = CONFIGURED[LOG_LEVEL];
  const write = (level: LogLine['level']) => (message: unknown, context?: unknown) => {
    if (LEVELS.indexOf(level) > lowest) return;
    const fields = typeof message === 'object' && message !== null ? { thread, ...message } : { thread, msg: String(message) };
    main.tell('log', { level, message: fields, context: typeof context === 'string' ? context : undefined });
  };
  return Object.fromEntries(LEVELS.map((level) => [level, write(level)])) as unknown as LoggerService;
}
