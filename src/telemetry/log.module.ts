import { Module } from '@nestjs/common';
import { LoggerModule, type Params } from 'nestjs-pino';
import { destination } from 'pino';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';

/** Paths whose values are redacted in each logged object, up to two levels deep. */
const REDACTED = ['authorization', 'headers.authorization', 'password'].flatMap((path) => [path, `*.${path}`, `*.*.${path}`]);

/** Contexts in which Nest logs its modules and routes at each start. These lines are not logged: operators do not need them. */
const FRAMEWORK_CONTEXTS: ReadonlySet<unknown> = new Set([
  'InstanceLoader',
  'RoutesResolver',
  'RouterExplorer',
  'NestApplication',
  'NestFactory',
]);
const INFO = 30;

function logging(config: Config): Params {
  return {
    pinoHttp: {
      level: config.LOG_LEVEL,
      autoLogging: false,
      redact: REDACTED,
      hooks: {
        logMethod(args, method, level) {
          const [first] = args as [unknown];
          const context = typeof first === 'object' && first !== null ? (first as { context?: unknown }).context : undefined;
          if (level > INFO || !FRAMEWORK_CONTEXTS.has(context)) method.apply(this, args);
        },
      },
      ...(process.stdout.isTTY
        ? { transport: { target: 'pino-pretty', options: { singleLine: true, translateTime: 'SYS:HH:MM:ss', ignore: 'pid,hostname' } } }
        : // Asynchronously, a process whose reader of the output has gone might never end: pino tries to write the last lines forever.
          { stream: destination({ dest: process.stdout.fd, sync: true }) }),
    },
    // No logger per request: it costs time, and requests log nothing through it.
    forRoutes: [],
  };
}

@Module({ imports: [LoggerModule.forRootAsync({ inject: [collectorConfig.KEY], useFactory: logging })] })
export class LogModule {}
