import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { createClient } from '@clickhouse/client';
import { Body, Controller, Headers, HttpCode, Injectable, Module, Post, type OnModuleDestroy } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { ExportTraceServiceRequest } from '../../test/support/oracle/otlp-messages.ts';
import { type DecodedRequest, type Row, rowsOf } from './rows.ts';

/*
 * A straightforward implementation for comparison: requests as objects, spans as rows, and the client's own `insert` every 200 ms. Like the
 * collector without a disk buffer, it answers when ClickHouse has the spans. It has no limits, no retries, no authentication.
 * `PORT=4318 CLICKHOUSE_URL=http://… node bench/baselines/dist/bench/baselines/nest-app.js`
 */

const BATCH_MS = 200;
const MAX_BODY_BYTES = 64 * 1024 ** 2;

interface Batch {
  readonly rows: Row[];
  readonly inserted: Promise<void>;
}

@Injectable()
class SpanInserter implements OnModuleDestroy {
  private readonly client = createClient({ url: process.env.CLICKHOUSE_URL, compression: { request: true } });
  private batch: Batch | undefined;

  /** Resolves when the rows are in ClickHouse. */
  async insert(rows: readonly Row[]): Promise<void> {
    this.batch ??= this.open();
    for (const row of rows) this.batch.rows.push(row);
    await this.batch.inserted;
  }

  async onModuleDestroy(): Promise<void> {
    await this.client.close();
  }

  private open(): Batch {
    const rows: Row[] = [];
    const inserted = new Promise((resolve) => setTimeout(resolve, BATCH_MS)).then(async () => {
      this.batch = undefined;
      // The load generator repeats its bodies, and ClickHouse would drop the second of two equal inserts without tokens.
      await this.client.insert({
        table: 'otel_traces',
        values: rows,
        format: 'JSONEachRow',
        clickhouse_settings: { insert_deduplication_token: randomUUID() },
      });
    });
    return { rows, inserted };
  }
}

@Controller()
class TracesController {
  constructor(private readonly inserter: SpanInserter) {}

  @Post('/v1/traces')
  @HttpCode(200)
  async export(@Body() request: DecodedRequest, @Headers('x-hive-target-ref') targetId: string): Promise<object> {
    await this.inserter.insert(rowsOf(request, targetId));
    return {};
  }
}

@Module({ controllers: [TracesController], providers: [SpanInserter] })
class BaselineModule {}

const app = await NestFactory.create<NestFastifyApplication>(BaselineModule, new FastifyAdapter({ bodyLimit: MAX_BODY_BYTES }), {
  logger: ['error'],
});
app.useBodyParser('application/x-protobuf', { bodyLimit: MAX_BODY_BYTES }, async (_request: unknown, body: Buffer) =>
  ExportTraceServiceRequest.decode(body),
);
app.enableShutdownHooks();
await app.listen(Number(process.env.PORT), '127.0.0.1');
