import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { runProgram, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { run } from '../support/servers/run.ts';
import { storedRows } from '../support/oracle/stored-rows.ts';

/* Machines that lack something: the binary of koffi, or a Node that is new enough. */

const dir = mkdtempSync(join(tmpdir(), 'platform-'));
afterAll(() => rmSync(dir, { recursive: true }));

describe('where koffi has no binary', () => {
  const withoutKoffi = preloaded(`
    import { registerHooks } from 'node:module';
    registerHooks({
      resolve(name, context, next) {
        if (name === 'koffi') throw new Error('Cannot find the native Koffi module');
        return next(name, context);
      },
    });
  `);

  let clickhouse: TestClickHouse;
  beforeAll(async () => {
    clickhouse = await startClickHouse({ systemLogs: false });
  });
  afterAll(() => clickhouse[Symbol.asyncDispose]());

  test('spans are stored, and the memory is told, without jemalloc', async () => {
    await using collector = await startCollector({ clickhouse, env: withoutKoffi });
    const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: 1 });
    expect((await collector.send(body)).status).toBe(200);
    expect(await storedRows(clickhouse, traceIds)).toHaveLength(7);
    const stats = await send(`${collector.adminUrl}/debug/pprof/stats`, '', { method: 'GET' });
    expect(JSON.parse(stats.body.toString())).toMatchObject({ rssBytes: expect.any(Number), jemalloc: null });
  });

  test('the disk buffer stops the start, with what to set', async () => {
    const env = { ...withoutKoffi, CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true', ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir };
    const { code, output } = await runProgram([], env);
    expect(code).toBe(1);
    expect(output.trim().split('\n')).toEqual([
      "The disk buffer needs the package koffi, which can't be loaded (Cannot find the native Koffi module). " +
        'Set ENABLE_DISK_BUFFER=false, or install it for this platform.',
    ]);
  });
});

describe('local mode on a machine that npm has no ClickHouse for', () => {
  /** Only what this process says of itself is changed: it is Linux all the same. */
  const mac = preloaded(`
    import Module from 'node:module';
    Object.defineProperty(process, 'platform', { value: 'darwin' });
    Object.defineProperty(process, 'arch', { value: 'arm64' });
    const resolve = Module._resolveFilename;
    Module._resolveFilename = (name, ...more) => {
      if (/^(koffi|@chdb)/.test(name)) throw new Error('There is none for darwin');
      return resolve(name, ...more);
    };
  `);
  const data = join(dir, 'data');

  test('it starts the clickhouse on the PATH, for one user with a password, without a disk buffer, and ends it', async () => {
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    const program = fileURLToPath(new URL('../support/servers/clickhouse-program.ts', import.meta.url));
    writeFileSync(join(bin, 'clickhouse'), `#!/bin/sh\nexec '${process.execPath}' '${program}' "$@"\n`, { mode: 0o755 });
    const [clickhousePort] = await freePorts(1);
    await using collector = await startCollector({
      program: 'local',
      env: {
        ...mac,
        INGEST_THREADS: '1',
        PATH: `${bin}:${process.env.PATH}`,
        LOCAL_DATA_DIR: data,
        LOCAL_CLICKHOUSE_PORT: String(clickhousePort),
      },
    });
    await until(() => collector.output().includes('Ctrl-C stops both'), 'the instructions are printed');
    expect(collector.output()).toMatch(new RegExp(`^Starting ${bin}/clickhouse and the collector…\n`));
    expect(collector.output()).toContain('"diskBuffer":"off"');

    const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: 1 });
    expect((await collector.send(body)).status).toBe(200);
    const [, login = '', url = ''] = /curl -u (\S+) '(\S+?)\/?' -d/.exec(collector.output()) ?? [];
    const ask = (authorization: string) =>
      send(`${url}/`, `SELECT count() FROM otel_traces WHERE TraceId IN ('${traceIds.join("','")}')`, { headers: { authorization } });
    expect((await ask(`Basic ${Buffer.from(login).toString('base64')}`)).body.toString()).toBe('7\n');
    expect((await ask(`Basic ${Buffer.from('local:wrong').toString('base64')}`)).status).toBeGreaterThanOrEqual(400);

    expect(await collector.interrupt()).toMatchObject({ code: 0, signal: null });
    await expect(ask('')).rejects.toThrow('ECONNREFUSED');
  });

  test('without one, it says how to get one', async () => {
    const { code, output } = await runProgram([], { ...mac, PATH: dir, LOCAL_DATA_DIR: data }, 'local');
    expect(code).toBe(1);
    expect(output).toMatch(/^There is no ClickHouse to start: none comes with npm for darwin arm64; .*\n$/);
  });
});

describe('the version of Node', () => {
  const { engines, devDependencies } = JSON.parse(read('package.json')) as { engines: { node: string }; devDependencies: { node: string } };
  const required = engines.node.slice('>='.length);

  test.each(['18.20.0', '24.3.0', '26.0.9'])('%s is refused, with the one that is needed', async (version) => {
    const env = preloaded(`Object.defineProperty(process.versions, 'node', { value: '${version}' });`);
    const { code, output } = await runProgram(['--version'], env);
    expect(code).toBe(1);
    expect(output).toBe(
      `The collector needs Node ${required} or later, and this is Node ${version}. ` +
        `Run npm ci, which installs one, and then npm start; or install Node ${required}.\n`,
    );
  });

  test.each(['local', 'cli/ring', 'cli/schema', 'cli/dead-letters'] as const)('%s is refused it as well', async (program) => {
    const { code, output } = await runProgram(
      ['--help'],
      preloaded("Object.defineProperty(process.versions, 'node', { value: '20.19.0' });"),
      program,
    );
    expect(code).toBe(1);
    expect(output).toMatch(/^The collector needs Node 26.* this is Node 20\.19\.0\. .*\n$/);
  });

  test.each([required, '26.10.0', '27.0.0'])('%s is taken', async (version) => {
    expect(
      (await runProgram(['--version'], preloaded(`Object.defineProperty(process.versions, 'node', { value: '${version}' });`))).code,
    ).toBe(0);
  });

  test.each(['20.20.2', '22.12.0', '24.3.0', required])('npm ci with Node %s prints no warning', async (version) => {
    const folder = join(dir, `npm-${version}`);
    mkdirSync(folder);
    for (const file of ['package.json', 'package-lock.json', '.npmrc']) writeFileSync(join(folder, file), read(file));
    const asOlder = preloaded(`Object.defineProperty(process, 'version', { value: 'v${version}' });`);
    const { status, stderr } = await run('npm', ['ci', '--dry-run', '--ignore-scripts', '--offline', '--prefix', folder], {
      ...asOlder,
      HOME: folder,
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('package.json, the image, the workflows and the pages say the same', () => {
    const major = required.split('.')[0];
    expect(engines.node).toBe(`>=${required}`);
    expect(devDependencies.node.split('.')[0]).toBe(major);
    expect(read('Dockerfile').match(/^FROM node:(\d+)/gm)).toEqual(Array.from({ length: 3 }, () => `FROM node:${major}`));
    for (const workflow of ['ci', 'release']) expect(read(`.github/workflows/${workflow}.yml`)).toContain(`node-version: ${major}\n`);
    for (const page of ['README.md', 'CONTRIBUTING.md']) expect(read(page)).toContain(`Node ${required}`);
  });
});

/** Runs code in a program before its own. */
function preloaded(code: string): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `--import=data:text/javascript;base64,${Buffer.from(code).toString('base64')}` };
}

function read(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
}
