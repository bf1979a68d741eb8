import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { measureEndToEnd, type Scenario } from '../../bench/end-to-end.ts';
import { endToEndTables } from '../../bench/report.ts';
import { diskBuffer, memoryMode, receiveOnly, type Subject } from '../../bench/subjects.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { startCollector } from '../support/servers/collector.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startProgress } from '../support/commands/progress.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { send } from '../support/clients/otlp-client.ts';

/* What `npm run bench` starts, and what it makes of a peer that can't be measured. */

afterEach(() => void vi.unstubAllEnvs());

/** As a shell of somebody who runs the collector has them: each would break one that is started for a test. */
async function shellSettings(): Promise<AsyncDisposable> {
  const [nobody] = await freePorts(1);
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const settings = {
    GRPC_PORT: String((taken.address() as AddressInfo).port),
    CLICKHOUSE_URL: `http://127.0.0.1:${nobody}`,
    CLICKHOUSE_DATABASE: 'not_there',
    CLICKHOUSE_TABLE: 'not_otel_traces',
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: '/proc/not-a-folder',
    DISABLE_AUTH: 'false',
    NODE_OPTIONS: '--not-an-option',
  };
  for (const [name, value] of Object.entries(settings)) vi.stubEnv(name, value);
  return { [Symbol.asyncDispose]: async () => void taken.close() };
}

const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: 1 });

test.each([memoryMode, diskBuffer])('$name of a bench takes no setting from the shell', async (subject) => {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using _shell = await shellSettings();
  await using server = await subject.start(clickhouse.url);
  expect(await send(`http://127.0.0.1:${server.port}/v1/traces`, body, {})).toMatchObject({ status: 200 });
  await server.drained(7);
  expect(await clickhouse.query('SELECT count() AS spans FROM otel_traces')).toEqual([{ spans: '7' }]);
});

test('nor do the servers that it is compared with', async () => {
  await using _shell = await shellSettings();
  await using server = await receiveOnly.start('');
  expect(await send(`http://127.0.0.1:${server.port}/v1/traces`, body, {})).toMatchObject({ status: 200 });
});

test('nor does the collector of a test', async () => {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using _shell = await shellSettings();
  await using collector = await startCollector({ clickhouse });
  expect(await collector.send(body)).toMatchObject({ status: 200 });
  expect(await clickhouse.query(`SELECT count() AS spans FROM otel_traces WHERE TraceId = '${traceIds[0]}'`)).toEqual([{ spans: '7' }]);
});

/** A peer within this process. */
function peer(name: string, answer: RequestListener): Subject {
  return {
    name,
    stores: true,
    mayLose: true,
    async start() {
      const server = createServer(answer).listen(0, '127.0.0.1');
      await once(server, 'listening');
      return {
        pid: process.pid,
        port: (server.address() as AddressInfo).port,
        drained: async () => {},
        async [Symbol.asyncDispose]() {
          server.close();
          server.closeAllConnections();
        },
      };
    },
  };
}

const scenario: Scenario = {
  name: 'small requests',
  encoding: 'json',
  spansPerRequest: 11,
  connections: 2,
  rate: 20,
  seconds: 1,
  others: { encoding: 'protobuf', spansPerRequest: 7, connections: 1, rate: 20 },
};

test('a peer that refuses, ends or is not available is a row with the reason, and others are measured', { timeout: 180_000 }, async () => {
  const refuses = peer('refuses', (request, response) => {
    request.resume().on('end', () => response.writeHead(400).end('attributes[0]: no value'));
  });
  const hangsUp = peer('hangs up', (request) => void request.socket.destroy());
  const absent: Subject = { ...refuses, name: 'absent', prepare: () => Promise.reject(new Error('`go version` fails here\nand more')) };
  const written: string[] = [];
  const stream = { isTTY: false, write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
  using progress = startProgress('Measures.', { steps: 4, seconds: 30, stream });
  const measured = await measureEndToEnd([refuses, hangsUp, absent, memoryMode], [scenario], 1, progress);

  const missing = measured.map((one) => [one.subject, one.missing?.why, one.missing?.reason]);
  expect(missing).toEqual([
    ['refuses', 'refused', 'answered 400 attributes[0]: no value'],
    ['hangs up', 'failed', 'A connection was closed without an answer.'],
    ['absent', 'not available', '`go version` fails here'],
    ['this collector, memory', undefined, undefined],
  ]);
  expect(measured[3].runs[0]).toMatchObject({ refusedRequests: 0, lostSpans: 0 });
  expect(measured[3].runs[0].insertsPerSecond).toBeGreaterThan(0);

  const [cpu, ...more] = endToEndTables(measured).split('\n\n');
  const [head, , row] = cpu.split('\n');
  expect(head).toMatch(/ \| refuses +\| hangs up +\| absent +\| this collector, memory \|$/);
  expect(row).toMatch(/^\| small requests +\| refused +\| failed +\| not available +\| [\d.]+k? \/ [\d.]+k? +\|$/);
  expect(more.at(-1)).toContain('- refuses, small requests: refused: answered 400 attributes[0]: no value');
  const said = written.join('');
  expect(said).toMatch(/\[2\/\d+, about \d+ s left\] run 1 of 1: small requests: refuses\n/);
  expect(said).toContain('\nsmall requests: refuses: refused: answered 400');
});
