import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type VariableName, variables } from '../../src/config/variables.ts';
import { expectStoredAsAnswered, outcomes, sendOne, startLoad } from '../support/clients/load.ts';
import { send, statusOf } from '../support/clients/otlp-client.ts';
import { connectRaw } from '../support/clients/raw-socket.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { storedRows } from '../support/oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, type Environment, runProgram, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* The built program, started and stopped as a container runtime or a terminal does it. */

describe('without ClickHouse', () => {
  test('it starts and stays up, refuses requests before it reads them, and takes them as soon as ClickHouse comes', async () => {
    const [httpPort] = await freePorts(1);
    await using collector = await startCollector({ env: { CLICKHOUSE_URL: `http://127.0.0.1:${httpPort}` } });
    await until(async () => (await collector.metrics()).get('hive_collector_clickhouse_up') === 0, 'the collector knows');

    expect(await collector.ready()).toBe(503);
    const health = await send(`${collector.adminUrl}/health`, '', { method: 'GET' });
    expect(health.status).toBe(200);
    expect(JSON.parse(health.body.toString())).toMatchObject({
      details: { collector: { version: expect.stringMatching(/^\d+\.\d+\.\d+/), queue: { spans: 0, pinnedSpans: {} } } },
    });
    expect((await send(collector.healthcheckUrl, '', { method: 'GET' })).status).toBe(200);
    using socket = await connectRaw(collector.url);
    socket.write('POST /v1/traces HTTP/1.1\r\nHost: collector\r\nContent-Length: 1000000\r\n\r\n');
    expect(await socket.nextAnswer()).toMatch(/^HTTP\/1\.1 503 [^]*^retry-after: 2$/im);

    await using clickhouse = await startClickHouse({ httpPort, systemLogs: false });
    await until(async () => (await collector.ready()) === 200, 'the collector is ready');
    const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: 1 });
    expect((await collector.send(body)).status).toBe(200);
    expect(await storedRows(clickhouse, traceIds)).toHaveLength(7);
  });
});

describe('asked to stop', () => {
  let clickhouse: TestClickHouse;
  beforeAll(async () => {
    clickhouse = await startClickHouse({ systemLogs: false });
  });
  afterAll(() => clickhouse[Symbol.asyncDispose]());

  const SHUTDOWN_TIMEOUT_MS = 10_000;

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'by %s under load, it ends in time, and what it has acknowledged is stored once',
    async (signal) => {
      await using collector = await startCollector({ clickhouse, env: { SHUTDOWN_TIMEOUT_MS: String(SHUTDOWN_TIMEOUT_MS) } });
      const load = startLoad(collector.url, { senders: 24, retryMs: 1_000 });
      await until(() => load.acknowledged() > 200, 'the load runs');

      const signalledAtMs = performance.now();
      const exit = await collector.stop(signal);
      const sent = await load.stop();

      expect(exit).toMatchObject({ code: 0, signal: null });
      expect(exit.tookMs).toBeLessThan(SHUTDOWN_TIMEOUT_MS);
      await expectStoredAsAnswered(clickhouse, sent);
      // Who was in hand gets an answer. A request that crosses with the end of its connection may find nobody.
      const inHand = sent.filter(({ sentAtMs }) => sentAtMs < signalledAtMs);
      expect(Object.keys(outcomes(inHand)).filter((outcome) => outcome !== '200' && outcome !== '503')).toEqual([]);
      expect(Object.keys(outcomes(sent)).filter((outcome) => !['200', '503', 'ECONNREFUSED', 'ECONNRESET'].includes(outcome))).toEqual([]);
    },
  );

  test('it finishes the request whose body is still on its way, and lets no other in', async () => {
    await using collector = await startCollector({ clickhouse });
    const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: 2 });
    using inHand = await connectRaw(collector.url);
    inHand.write(`POST /v1/traces HTTP/1.1\r\nHost: collector\r\nContent-Length: ${body.length}\r\n\r\n`);
    inHand.write(body.toString('latin1', 0, 100));
    await until(async () => (await collector.metrics()).get('hive_collector_requests_in_hand') === 1, 'the request is in hand');

    collector.signal('SIGTERM');
    await until(async () => (await collector.ready()) === 503, 'the collector shuts down');
    const late = await collector.send(body);
    inHand.write(body.toString('latin1', 100));

    expect(await inHand.nextAnswer()).toMatch(/^HTTP\/1\.1 200 /);
    expect(late.status).toBe(503);
    expect(late.headers['retry-after']).toBe('1');
    expect(statusOf(late).message).toContain('shutting down');
    expect(await collector.exited).toMatchObject({ code: 0, signal: null });
    expect(await storedRows(clickhouse, traceIds)).toHaveLength(7);
  });

  test('twice within a moment, as npm does on Ctrl-C, it still stores what it has in hand', async () => {
    await using own = await startClickHouse({ systemLogs: false });
    await using collector = await startCollector({ clickhouse: own });
    own.pause();
    const requests = Array.from({ length: 5 }, () => sendOne(collector.url));
    await until(async () => {
      const metrics = await collector.metrics();
      return metrics.get('hive_collector_requests_in_hand') === 5 && metrics.get('hive_collector_inserts_under_way') === 1;
    }, 'all are let in, and an insert is under way');

    collector.signal('SIGINT');
    await until(async () => (await collector.ready()) === 503, 'the collector shuts down');
    collector.signal('SIGINT');
    const other = await send(collector.healthcheckUrl, '', { method: 'GET' });
    own.resume();

    expect(other.status).toBe(200);
    expect(outcomes(await Promise.all(requests))).toEqual({ 200: 5 });
    expect(await collector.exited).toMatchObject({ code: 0, signal: null });
    await expectStoredAsAnswered(own, await Promise.all(requests));
  });

  test.each(['paused', 'gone'])('while ClickHouse is %s, it ends at the deadline, and refuses what is not stored', async (state) => {
    await using own = await startClickHouse({ systemLogs: false });
    await using collector = await startCollector({
      clickhouse: own,
      env: { SHUTDOWN_TIMEOUT_MS: '1500', ACK_TIMEOUT_MS: '60000' },
    });
    own.pause();
    const requests = Array.from({ length: 5 }, () => sendOne(collector.url));
    await until(async () => (await collector.metrics()).get('hive_collector_inserts_under_way') === 1, 'the insert is under way');
    if (state === 'gone') await own.kill();

    const exit = await collector.stop();
    const sent = await Promise.all(requests);
    if (state === 'gone') await own.restart();
    else own.resume();

    expect(exit).toMatchObject({ code: 0, signal: null });
    expect(exit.tookMs).toBeGreaterThan(900);
    expect(exit.tookMs).toBeLessThan(2_500);
    expect(outcomes(sent)).toEqual({ 503: 5 });
    await expectStoredAsAnswered(own, sent);
  });
});

describe('the command line', () => {
  test('five mistakes in the environment are told in one message, each with what was given and what is allowed', async () => {
    const { code, output } = await runProgram([], {
      CLICKHOUSE_URL: 'clickhouse:8123',
      DISABLE_AUTH: 'perhaps',
      PORT: '65536',
      ACK_MODE: 'eventually',
      BATCH_WORKERS: '0',
    });

    expect(code).toBe(1);
    expect(output.trim().split('\n')).toEqual([
      'The configuration has 5 problems:',
      '  - PORT is "65536". Allowed: a whole number from 1 to 65535.',
      '  - DISABLE_AUTH is "perhaps". Allowed: true or false.',
      // It may hold a password.
      '  - CLICKHOUSE_URL is not valid (the value is not shown). Allowed: an http:// or https:// URL, ' +
        'or a comma-separated list of different servers. A path and a query may be in it, but each parameter only once, ' +
        'and not query, query_id, user, password, session_id, compress, decompress, default_format or param_….',
      '  - BATCH_WORKERS is "0". Allowed: a whole number from 1 to 64.',
      '  - ACK_MODE is "eventually". Allowed: durable, received.',
    ]);
  });

  test('without a ClickHouse to send to, both ways to have one are named', async () => {
    const { code, output } = await runProgram([], { DISABLE_AUTH: 'true' });

    expect(code).toBe(1);
    expect(output).toMatch(/one problem:\n {2}- CLICKHOUSE_URL is not set\. .*http:\/\/clickhouse:8123.*npm run local/);
  });

  test('--help lists every variable with its default', async () => {
    const { code, output } = await runProgram(['--help'], {});

    expect(code).toBe(0);
    const names = Object.keys(variables) as VariableName[];
    expect(names.length).toBeGreaterThan(30);
    for (const name of names)
      expect(output).toMatch(
        new RegExp(`^${name} +\\((default: .+|no default|required|required, or CLICKHOUSE_HOST)\\)\\n +\\S.*\\n +Allowed: \\S`, 'm'),
      );
    for (const name of ['PORT', 'CLICKHOUSE_TABLE', 'ACK_TIMEOUT_MS', 'ROW_DIALECT'] as const) {
      expect(output).toMatch(new RegExp(`^${name} +\\(default: ${variables[name].fallback}\\)$`, 'm'));
    }
  });

  test('--version prints the version, which /health, the metrics, the chart and the changelog have, too', async () => {
    const { version }: { version: string } = JSON.parse(file('package.json'));
    expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(await runProgram(['--version'], {})).toMatchObject({ code: 0, output: `${version}\n` });

    await using collector = await startCollector();
    const health = await send(`${collector.adminUrl}/health`, '', { method: 'GET' });
    expect(JSON.parse(health.body.toString())).toMatchObject({ details: { collector: { version } } });
    expect((await collector.metrics()).get(`hive_collector_build_info{version="${version}",node="${process.version}"}`)).toBe(1);

    expect(file('charts/hive-otel-collector/Chart.yaml')).toContain(`\nversion: ${version}\nappVersion: ${version}\n`);
    expect(file('CHANGELOG.md')).toContain(`## [${version}]`);
    expect(file('README.md')).toContain(`ghcr.io/graphql-hive/otel-collector:${version}\n`);
  });

  test.each(['PORT', 'GRPC_PORT', 'HEALTH_PORT', 'HEALTHCHECK_PORT'] as const)(
    'a %s that is taken ends the start with a message that names both',
    async (variable) => {
      await using other = await takenPort();
      const [one, two, three, clickhouse] = await freePorts(4);
      const { code, output } = await runProgram([], {
        HOST: '127.0.0.1',
        PORT: String(one),
        HEALTH_PORT: String(two),
        HEALTHCHECK_PORT: String(three),
        CLICKHOUSE_URL: `http://127.0.0.1:${clickhouse}`,
        DISABLE_AUTH: 'true',
        [variable]: String(other.port),
      });

      expect(code).toBe(1);
      expect(output).toBe(`Port ${other.port} on 127.0.0.1 is in use by another program. Stop it, or set ${variable} to another port.\n`);
    },
  );

  test('-h prints the same', async () => {
    expect(await runProgram(['-h'], {})).toEqual(await runProgram(['--help'], {}));
  });

  test('a misspelled variable is a warning of the start', async () => {
    await using collector = await startCollector({ env: { ENABLE_DISKBUFFER: 'true' } });
    await until(() => collector.output().includes('The collector has started'), 'the start is logged');
    expect(collector.output()).toContain('ENABLE_DISKBUFFER is not a setting of the collector. Did you mean ENABLE_DISK_BUFFER?');
  });

  test('local mode refuses an argument as well', async () => {
    expect(await runProgram(['--port', '1'], {}, 'local')).toMatchObject({
      code: 2,
      output: expect.stringMatching(/^--port 1 is not an argument: there are only/),
    });
  });

  test.each([[['--port', '1']], [['serve']], [['--help', 'x']]])('no argument is ignored: %j', async (args) => {
    const { code, output } = await runProgram(args, {});
    expect(code).toBe(2);
    expect(output).toBe(
      `${args.join(' ')} is not an argument: there are only --help and --version. ` +
        'Settings are environment variables, such as PORT=4318; see --help.\n',
    );
  });

  test("a directory of the disk buffer that can't be created ends the start with one message", async () => {
    const env = {
      CLICKHOUSE_URL: 'http://127.0.0.1:1',
      DISABLE_AUTH: 'true',
      ENABLE_DISK_BUFFER: 'true',
      DISK_BUFFER_DIR: join(fileURLToPath(import.meta.url), 'ring'),
    };
    const { code, output } = await runProgram([], env);
    expect(code).toBe(1);
    expect(output).toBe(
      `${env.DISK_BUFFER_DIR} can't be created (ENOTDIR). Set DISK_BUFFER_DIR to a directory that the collector may write to.\n`,
    );
  });
});

describe('local mode', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'collector-local-'));
    return () => rmSync(directory, { recursive: true, force: true });
  });

  async function startLocal(env: Environment = {}): Promise<Collector> {
    const [clickhousePort] = await freePorts(1);
    const collector = await startCollector({
      program: 'local',
      env: { LOCAL_DATA_DIR: directory, LOCAL_CLICKHOUSE_PORT: String(clickhousePort), ...env },
    });
    await until(() => collector.output().includes('Ctrl-C stops both'), 'the instructions are printed');
    return collector;
  }

  test('the two commands that it prints send a trace and read it back; Ctrl-C ends it and its ClickHouse; the data stays', async () => {
    await using collector = await startLocal();
    const { sendTrace, readBack } = printedCommands(collector.output());

    expect(await shell(sendTrace)).toMatch(/^HTTP\/1\.1 200 OK[^]*\{\}$/);
    // The disk buffer has acknowledged it: ClickHouse gets it a moment later.
    await until(
      async () => /TraceId: +5b8efff798038103d269b633813fc60c\nServiceName: +hello\nSpanName: +my first span\n/.test(await shell(readBack)),
      'the trace can be read back',
    );
    expect(processesOf(directory)).toHaveLength(1);

    expect(await collector.interrupt()).toMatchObject({ code: 0, signal: null });
    expect(processesOf(directory)).toEqual([]);

    await using again = await startLocal();
    expect(await shell(printedCommands(again.output()).readBack)).toContain('my first span');
    expect(await again.stop('SIGTERM')).toMatchObject({ code: 0, signal: null });
    expect(processesOf(directory)).toEqual([]);
  });

  test('it has a ClickHouse of its own where the environment names none, and prints a command that works for any table name', async () => {
    const alone = {
      CLICKHOUSE_URL: '',
      CLICKHOUSE_PROTOCOL: 'https',
      CLICKHOUSE_PORT: '8444',
      CLICKHOUSE_USERNAME: 'other',
      CLICKHOUSE_PASSWORD_FILE: '/nowhere',
    };
    await using collector = await startLocal({ ...alone, CLICKHOUSE_TABLE: "it's `$HOME`" });
    expect(collector.output()).toMatch(/^Starting ClickHouse and the collector…\n/);
    const { sendTrace, readBack } = printedCommands(collector.output());
    expect(await shell(sendTrace)).toContain('200 OK');
    await until(async () => (await shell(readBack)).includes('my first span'), 'the trace can be read back');
  });

  describe('with the ClickHouse that the environment names', () => {
    const PASSWORD = 'swordfish-9c1e';
    const USERS = `<users>
      <default><password/><networks><ip>127.0.0.1</ip></networks></default>
      <tester><password>${PASSWORD}</password><networks><ip>127.0.0.1</ip></networks></tester>
    </users>`;
    let clickhouse: TestClickHouse;
    beforeAll(async () => {
      clickhouse = await startClickHouse({ systemLogs: false, users: USERS });
    });
    afterAll(() => clickhouse[Symbol.asyncDispose]());

    test.each([
      ['CLICKHOUSE_URL', (url: URL) => ({ CLICKHOUSE_URL: url.href })],
      ['CLICKHOUSE_HOST', (url: URL) => ({ CLICKHOUSE_HOST: url.hostname, CLICKHOUSE_PORT: url.port })],
    ])('%s: it starts none, and its commands work', async (_name, names) => {
      await clickhouse.command('DROP TABLE IF EXISTS otel_traces');
      await using collector = await startCollector({
        program: 'local',
        env: { LOCAL_DATA_DIR: directory, ...names(new URL(clickhouse.url)) },
      });
      await until(() => collector.output().includes('Ctrl-C stops the collector'), 'the instructions are printed');
      expect(collector.output()).toContain(`Starting the collector with ClickHouse at ${clickhouse.url}…\n`);
      expect(existsSync(join(directory, 'clickhouse'))).toBe(false);
      const { sendTrace, readBack } = printedCommands(collector.output());
      expect(await shell(sendTrace)).toContain('200 OK');
      await until(async () => (await shell(readBack)).includes('my first span'), 'the trace can be read back');
      expect(await collector.interrupt()).toMatchObject({ code: 0, signal: null });
      expect(await clickhouse.query('SELECT count() AS spans FROM otel_traces')).toEqual([{ spans: '1' }]);
    });

    test('its password is not printed: curl asks for it', async () => {
      const url = clickhouse.url.replace('://', `://tester:${PASSWORD}@`);
      await using collector = await startCollector({ program: 'local', env: { LOCAL_DATA_DIR: directory, CLICKHOUSE_URL: url } });
      await until(() => collector.output().includes('Ctrl-C stops the collector'), 'the instructions are printed');
      expect(collector.output()).toContain(`curl -u tester '${clickhouse.url}'`);
      expect(collector.output()).not.toContain(PASSWORD);
    });

    test('while it is away, the log says why, and Ctrl-C works', async () => {
      const [closed] = await freePorts(1);
      await using collector = await startCollector({
        program: 'local',
        env: { LOCAL_DATA_DIR: directory, CLICKHOUSE_URL: `http://127.0.0.1:${closed}` },
      });
      await until(() => collector.output().includes('ClickHouse is not available; retrying'), 'the log says so');
      expect(await collector.interrupt()).toMatchObject({ code: 0, signal: null });
    });
  });

  test('a refused request is in the log', async () => {
    await using collector = await startLocal();
    expect((await collector.send('{', { 'content-type': 'application/json' })).status).toBe(400);
    await until(() => collector.output().includes('A request was refused'), 'the refusal is logged');
    const line: unknown = JSON.parse(
      collector
        .output()
        .split('\n')
        .find((text) => text.includes('A request was refused'))!,
    );
    expect(line).toMatchObject({ level: 40, status: 400, reason: expect.stringContaining('malformed') });
  });

  test('a ClickHouse port that is taken is named, with the variable to set', async () => {
    await using other = await takenPort();
    const { code, output } = await runProgram([], { LOCAL_DATA_DIR: directory, LOCAL_CLICKHOUSE_PORT: String(other.port) }, 'local');

    expect(code).toBe(1);
    expect(output).toContain(`Port ${other.port} is in use`);
    expect(output).toContain('LOCAL_CLICKHOUSE_PORT');
    expect(output).not.toContain(' at ');
  });

  test('a ClickHouse port that is none is one problem, as with any other variable', async () => {
    const { code, output } = await runProgram([], { LOCAL_DATA_DIR: directory, LOCAL_CLICKHOUSE_PORT: 'x' }, 'local');

    expect({ code, output }).toEqual({
      code: 1,
      output: 'The configuration has one problem:\n  - LOCAL_CLICKHOUSE_PORT is "x". Allowed: a whole number from 1 to 65535.\n',
    });
  });

  test('a port of the collector that is taken ends its ClickHouse too', async () => {
    await using other = await takenPort();
    const [clickhousePort] = await freePorts(1);
    const { code, output } = await runProgram(
      [],
      { LOCAL_DATA_DIR: directory, LOCAL_CLICKHOUSE_PORT: String(clickhousePort), HEALTHCHECK_PORT: String(other.port) },
      'local',
    );

    expect(code).toBe(1);
    expect(output).toContain(
      `Port ${other.port} on 127.0.0.1 is in use by another program. Stop it, or set HEALTHCHECK_PORT to another port.`,
    );
    expect(processesOf(directory)).toEqual([]);
  });
});

function printedCommands(output: string): { sendTrace: string; readBack: string } {
  const [sendTrace = '', readBack = ''] = output
    .split('\n')
    .filter((line) => line.startsWith('  '))
    .map((line) => line.trim());
  return { sendTrace, readBack };
}

async function shell(command: string): Promise<string> {
  return (await promisify(execFile)('sh', ['-c', command])).stdout;
}

/** Processes, other than those that have ended, on whose command line a directory is. */
function processesOf(directory: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
    } catch {
      return false; // ended since it was listed
    }
  });
}

async function takenPort(): Promise<AsyncDisposable & { port: number }> {
  const [port] = await freePorts(1);
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    port,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, 'close');
    },
  };
}

/** The text of a file of the repository. */
function file(name: string): string {
  return readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
}
