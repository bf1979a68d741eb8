import 'reflect-metadata';
import { extname } from 'node:path';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Logger } from 'nestjs-pino';
import { AppModule } from './app.module.ts';
import { trimMalloc } from './runtime/malloc.ts';
import { collectGarbage, growHeapFreely } from './runtime/v8-memory.ts';
import { createAdapter } from './server/adapter.ts';
import { Ports, type OpenPorts } from './server/ports.ts';
import { UsageError } from './cli/terminal.ts';
import { IngestThreads } from './threads/ingest-threads.ts';
import { logStart } from './start-log.ts';

/** Starts the collector with the configuration in the environment. @throws ConfigError, DiskBufferError or ListenError */
export async function startApp(): Promise<{ app: NestFastifyApplication; ports: OpenPorts }> {
  growHeapFreely();
  const app = await NestFactory.create<NestFastifyApplication>(AppModule, createAdapter(), {
    bodyParser: false,
    bufferLogs: true,
    abortOnError: false,
    autoFlushLogs: false,
  });
  try {
    // The start leaves garbage and a large young generation: without this collection, V8 would keep some 30 MB of them under low load.
    collectGarbage(true);
    const threads = app.get(IngestThreads);
    threads.program = new URL(`./ingest-thread${extname(import.meta.url)}`, import.meta.url);
    const ports = await app.get(Ports).open(app, threads.isOn ? threads : undefined);
    trimMalloc();
    // After the ports are open: a failed start prints only its reason, without log lines before it.
    app.useLogger(app.get(Logger));
    app.flushLogs();
    logStart(app, ports);
    return { app, ports };
  } catch (error) {
    await app.close();
    throw error;
  }
}

/** Signals within this time count as one: npm forwards signals that the terminal has also sent to this process, so Ctrl-C arrives twice. */
const SAME_SIGNAL_MS = 1_000;

/** On SIGTERM or SIGINT, calls `stop` and then exits the process. A second signal exits it immediately, with code 1. */
export function stopOnSignal(stop: () => Promise<void>): void {
  let stoppingSinceMs: number | undefined;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stoppingSinceMs !== undefined) {
        if (performance.now() - stoppingSinceMs > SAME_SIGNAL_MS) process.exit(1);
        return;
      }
      stoppingSinceMs = performance.now();
      stop().then(
        () => process.exit(0),
        (error: unknown) => {
          console.error(error);
          process.exit(1);
        },
      );
    });
  }
}

/**
 * Prints why the process can't start, only the message of an error that an operator can fix, and exits: with code 2 for wrong arguments,
 * else 1.
 */
export function failToStart(error: unknown): never {
  const expected =
    error instanceof Error &&
    ['ConfigError', 'DiskBufferError', 'EmbeddedClickHouseError', 'ListenError', 'UsageError'].includes(error.name);
  console.error(expected ? error.message : error);
  process.exit(error instanceof UsageError ? 2 : 1);
}
