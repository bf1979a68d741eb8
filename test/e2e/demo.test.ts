import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { type Environment, type Exit, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* `npm run demo`, with ports and data of its own. */

interface Demo extends AsyncDisposable {
  readonly dataDir: string;
  readonly exited: Promise<Exit>;
  output(): string;
  /** Ctrl-C: SIGINT to the whole process group, as a terminal sends it. */
  interrupt(): void;
}

async function startDemo(args: readonly string[], settings: Environment = {}): Promise<Demo> {
  const dataDir = mkdtempSync(join(tmpdir(), 'demo-'));
  const [PORT, HEALTH_PORT, HEALTHCHECK_PORT, LOCAL_CLICKHOUSE_PORT] = (await freePorts(4)).map(String);
  const env = {
    PATH: process.env.PATH,
    LOCAL_DATA_DIR: dataDir,
    DISK_BUFFER_MAX_SIZE_MB: '64',
    PORT,
    HEALTH_PORT,
    HEALTHCHECK_PORT,
    LOCAL_CLICKHOUSE_PORT,
    ...settings,
  };
  const child = spawn(process.execPath, [fileURLToPath(new URL('../../demo/main.ts', import.meta.url)), ...args], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  // Once nobody can write to its output any more: local mode and ClickHouse are gone, too.
  const exited = once(child, 'close').then((ended): Exit => ({
    code: ended[0] as number | null,
    signal: ended[1] as NodeJS.Signals | null,
    output,
  }));
  return {
    dataDir,
    exited,
    output: () => output,
    interrupt: () => void process.kill(-child.pid!, 'SIGINT'),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
      await exited;
      rmSync(dataDir, { recursive: true });
    },
  };
}

/** The figure before the words. */
function figure(output: string, words: string): number {
  return Number(new RegExp(`([\\d,]+) ${words}`).exec(output)?.[1].replaceAll(',', ''));
}

test('it stores what it says it has stored, and finds the subgraph that failed', async () => {
  await using demo = await startDemo(['--seconds', '4', '--exit']);
  const { code, output } = await demo.exited;
  expect({ code, output }).toMatchObject({ code: 0 });
  const spans = figure(output, 'spans of');
  expect(spans).toBeGreaterThan(1_000);
  expect(figure(output, 'spans acknowledged')).toBe(spans);
  expect(figure(output, 'spans stored')).toBe(spans);
  // Nobody is there any more who would answer.
  expect(output).not.toContain('curl ');

  await using clickhouse = await startClickHouse({ dataDir: join(demo.dataDir, 'clickhouse'), systemLogs: false });
  const [stored] = await clickhouse.query(
    `SELECT toUInt32(count()) AS spans, toUInt32(uniqExact(SpanId)) AS ids, toUInt32(countIf(ParentSpanId = '')) AS roots,
       toUInt32(uniqExact(ServiceName, ResourceAttributes['host.name'])) AS gateways FROM otel_traces`,
  );
  expect(stored).toEqual({ spans, ids: spans, roots: figure(output, 'GraphQL requests'), gateways: 3 });
  const failed = await clickhouse.query<{ name: string }>(
    `SELECT SpanName AS name FROM otel_traces WHERE StatusCode = 'STATUS_CODE_ERROR' AND SpanName LIKE 'subgraph%'
     GROUP BY name ORDER BY count() DESC`,
  );
  expect(failed[0]).toEqual({ name: 'subgraph.execute (reviews)' });
  const orphans = await clickhouse.query(
    `SELECT SpanName FROM otel_traces
     WHERE ParentSpanId != '' AND (TraceId, ParentSpanId) NOT IN (SELECT TraceId, SpanId FROM otel_traces)`,
  );
  expect(orphans).toEqual([]);
});

test('it stays until Ctrl-C, and its queries can be pasted', async () => {
  await using demo = await startDemo(['--seconds', '1']);
  await until(() => demo.output().includes('Ctrl-C stops it'), 'the demo has played');
  const queries = Array.from(demo.output().matchAll(/^ {2}curl -u (\S+) (\S+) -d "(.*)"$/gm), ([, user, url, sql]) => ({ user, url, sql }));
  expect(queries).toHaveLength(3);
  for (const { user, url, sql } of queries) {
    const answer = await fetch(url, {
      method: 'POST',
      body: sql,
      headers: { connection: 'close', authorization: `Basic ${Buffer.from(user).toString('base64')}` },
    });
    expect(await answer.text()).toMatch(/─(operation|at|Timestamp)─/);
  }

  demo.interrupt();
  expect(await demo.exited).toMatchObject({ code: 0, signal: null });
});

test('it plays into the ClickHouse that the environment names', async () => {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using demo = await startDemo(['--seconds', '1', '--exit'], { CLICKHOUSE_URL: clickhouse.url });
  const { code, output } = await demo.exited;
  expect({ code, output }).toMatchObject({ code: 0 });
  expect(figure(output, 'spans stored')).toBeGreaterThan(100);
  expect(await clickhouse.query('SELECT toUInt32(uniqExact(SpanId)) AS spans FROM otel_traces')).toEqual([
    { spans: figure(output, 'spans stored') },
  ]);
});

test('a wrong option is one sentence', async () => {
  await using demo = await startDemo(['--seconds', 'long']);
  expect(await demo.exited).toEqual({ code: 2, signal: null, output: '--seconds is long. Allowed: a whole number from 1 to 86400.\n' });
});

test('what keeps local mode from starting is told once, and ends it', async () => {
  await using other = await startDemo(['--seconds', '60']);
  await until(() => other.output().includes('See them arrive'), 'the other plays');
  const [, port] = /http:\/\/127\.0\.0\.1:(\d+) for/.exec(other.output()) ?? [];
  await using demo = await startDemo([], { PORT: port });
  expect(await demo.exited).toEqual({
    code: 1,
    signal: null,
    output: `Port ${port} on 127.0.0.1 is in use by another program. Stop it, or set PORT to another port.\n`,
  });
});
