import 'reflect-metadata';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Logger } from 'nestjs-pino';
import { AppModule } from './app.module.ts';
import { createAdapter } from './server/adapter.ts';
import { Ports, type OpenPorts } from './server/ports.ts';
import { UsageError } from './cli/terminal.ts';
import { logStart } from './start-log.ts';

/**
 * After its first full collection V8 would let the old generation grow by 8 MB until the next one: under full load one a
 * second, a tenth of the CPU. So it may double.
 */
const HEAP_GROWING_PERCENT = 100;

/**
 * Starting leaves garbage behind, and a young generation that grew for it: V8 would keep some 30 MB of both for as long as there is
 * little to do. Takes a tenth of a second. What gives back everything has no function of its own in Node's API.
 */
function giveMemoryBack(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: object) => void;
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** Starts the collector with the configuration in the environment. @throws ListenError */
export async function startApp(): Promise<{ app: NestFastifyApplication; ports: OpenPorts }> {
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`);
  const app = await NestFactory.create<NestFastifyApplication>(AppModule, createAdapter(), { bodyParser: false, bufferLogs: true, abortOnError: false, autoFlushLogs: false });
  try {
    giveMemoryBack();
    const ports = await app.get(Ports).open(app);
    // Only now: a start that fails prints its reason, and no log before it.
    app.useLogger(app.get(Logger));
    app.flushLogs();
    logStart(app, ports);
    return { app, ports };
  } catch (error) {
    await app.close();
    throw error;
  }
}

/** npm passes on the signals that a terminal has sent to its child already: one Ctrl-C comes twice. */
const SAME_SIGNAL_MS = 1_000;

/** Calls `stop` on SIGTERM or SIGINT, and then ends the process; at once on the second signal. */
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

/** Prints why the process can't start, one message for an error that an operator can fix, and ends it: with 2 for wrong arguments, else 1. */
export function failToStart(error: unknown): never {
  const expected = error instanceof Error && ['ConfigError', 'DiskBufferError', 'EmbeddedClickHouseError', 'ListenError', 'UsageError'].includes(error.name);
  console.error(expected ? error.message : error);
  process.exit(error instanceof UsageError ? 2 : 1);
}
