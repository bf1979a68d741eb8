import 'reflect-metadata';
import { workerData } from 'node:worker_threads';
import { Logger } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { TranscoderPool } from './blocks/transcoder-pool.ts';
import { collectorConfig } from './config/config.module.ts';
import type { Config } from './config/variables.ts';
import { IngestThreadModule } from './ingest-thread.module.ts';
import { IngestService } from './ingest/ingest.service.ts';
import { RefusalLog } from './ingest/refusal-log.ts';
import { MemoryPressure } from './queue/memory-pressure.ts';
import { collectGarbage } from './runtime/v8-memory.ts';
import { createAdapter } from './server/adapter.ts';
import { Ports } from './server/ports.ts';
import { MainThread } from './threads/main-thread.ts';
import type { ThreadData } from './threads/messages.ts';
import { RemoteTable } from './threads/remote-table.ts';
import { forwardRefusals, forwardTargets } from './threads/reports.ts';
import { threadLog } from './threads/thread-log.ts';

/* An ingest thread (docs/architecture.md: "Ingest threads"): started by threads/ingest-threads.ts, up to INGEST_THREADS of them. */

const app = await NestFactory.create<NestFastifyApplication>(IngestThreadModule, createAdapter(), {
  bodyParser: false,
  logger: false,
  abortOnError: false,
});
const main = app.get(MainThread);
const ingest = app.get(IngestService);
const transcoders = app.get(TranscoderPool);
const ports = app.get(Ports);
Logger.overrideLogger(threadLog(main, app.get<Config>(collectorConfig.KEY), (workerData as ThreadData).slot));
app.get(MemoryPressure).start();
forwardRefusals(app.get(RefusalLog), main);
forwardTargets(ingest.topTargets, main);
main.serve({
  seal: () => transcoders.seal(),
  limits: (limits) => {
    app.get(RemoteTable).limits = limits;
  },
  endConnections: () => ports.endConnections(),
  standby: (isStandby) => ports.setStandby(isStandby),
  steer: (sockets) => ports.steer(sockets),
  async close() {
    const answered = ingest.close();
    transcoders.seal();
    await answered;
    // With ACK_MODE=received, requests that have their answer can have left spans in the open block.
    transcoders.seal();
  },
  async listen() {
    await ports.openSenders(true);
  },
  stop: () => app.close(),
});
await ports.prepare(app);
collectGarbage(true);
main.tell('prepared', undefined);
