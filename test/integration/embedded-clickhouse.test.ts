import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { zstdCompressSync } from 'node:zlib';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { startEmbeddedClickHouse } from '../../src/embedded/embedded-clickhouse.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';

const source = new URL('../../src/embedded/embedded-clickhouse.ts', import.meta.url);

describe('the embedded ClickHouse', () => {
  test('answers over HTTP within seconds, on 127.0.0.1 only', async () => {
    const startedAt = performance.now();
    await using clickhouse = await startClickHouse();

    expect(await clickhouse.query('SELECT 1 AS one, toUInt64(2) AS two')).toEqual([{ one: 1, two: '2' }]);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    expect(listeningAddresses(clickhouse.server.httpPort)).toEqual(['0100007F']);
  });

  test('keeps the rows of a table over kill -9 and over an orderly stop', async () => {
    await using clickhouse = await startClickHouse();
    await createNumbers(clickhouse);
    await clickhouse.command('INSERT INTO numbers SELECT number FROM numbers(1000)');

    await clickhouse.kill();
    await clickhouse.restart();
    await clickhouse.command('INSERT INTO numbers SELECT number FROM numbers(1000, 10)');
    await clickhouse.stop();
    await clickhouse.restart();

    expect(await clickhouse.query('SELECT count() AS rows, sum(n) AS total FROM numbers')).toEqual([{ rows: '1010', total: '509545' }]);
  });

  test('keeps its part log over kill -9', async () => {
    await using clickhouse = await startClickHouse();
    await createNumbers(clickhouse);
    await clickhouse.command('INSERT INTO numbers VALUES (1)');
    await clickhouse.command('SYSTEM FLUSH LOGS');

    await clickhouse.kill();
    await clickhouse.restart();
    await clickhouse.command('INSERT INTO numbers VALUES (2)');
    await clickhouse.command('SYSTEM FLUSH LOGS');

    expect(
      await clickhouse.query("SELECT count() AS parts FROM system.part_log WHERE event_type = 'NewPart' AND table = 'numbers'"),
    ).toEqual([{ parts: '2' }]);
  });

  test('reads concatenated zstd frames as one insert', async () => {
    await using clickhouse = await startClickHouse();
    await createNumbers(clickhouse);

    const frames = Buffer.concat([zstdCompressSync('1\n2\n'), zstdCompressSync('3\n')]);
    await clickhouse.command('INSERT INTO numbers FORMAT CSV', frames, { 'content-encoding': 'zstd' });

    expect(await clickhouse.query('SELECT n FROM numbers ORDER BY n')).toEqual([{ n: '1' }, { n: '2' }, { n: '3' }]);
  });

  test('answers again after a pause', async () => {
    await using clickhouse = await startClickHouse();
    clickhouse.pause();
    const answer = clickhouse.query('SELECT 1 AS one');
    expect(await Promise.race([answer, delay(300, 'nothing')])).toBe('nothing');

    clickhouse.resume();
    expect(await answer).toEqual([{ one: 1 }]);
  });

  test('reads and writes nothing outside its data directory, without a password too', async () => {
    await using directory = temporaryDirectory();
    await using clickhouse = await startClickHouse();
    const file = join(directory.path, 'private.txt');
    writeFileSync(file, 'private');

    for (const read of [`SELECT file('${file}')`, `SELECT * FROM file('${file}', LineAsString)`, "SELECT file('/etc/passwd')"])
      await expect(clickhouse.query(read)).rejects.toThrow('Permission denied');
    await expect(
      clickhouse.command(`INSERT INTO FUNCTION file('${join(directory.path, 'written.csv')}', 'CSV', 'a UInt8') VALUES (1)`),
    ).rejects.toThrow('Permission denied');
    expect(readdirSync(directory.path)).toEqual(['private.txt']);
  });

  test('says which port is taken', async () => {
    await using directory = temporaryDirectory();
    await using clickhouse = await startClickHouse();
    const { httpPort } = clickhouse.server;

    await expect(startEmbeddedClickHouse({ dataDir: directory.path, httpPort })).rejects.toMatchObject({
      reason: 'port-taken',
      message: expect.stringContaining(`Port ${httpPort} is in use`),
    });
  });

  test('refuses a data directory that another server holds, which goes on unharmed', async () => {
    await using clickhouse = await startClickHouse();
    await createNumbers(clickhouse);

    await expect(startEmbeddedClickHouse({ dataDir: clickhouse.dataDir })).rejects.toMatchObject({
      reason: 'data-dir-locked',
      message: expect.stringContaining(clickhouse.dataDir),
    });

    await clickhouse.command('INSERT INTO numbers VALUES (7)');
    await clickhouse.restart();
    expect(await clickhouse.query('SELECT n FROM numbers')).toEqual([{ n: '7' }]);
  });

  test('says what to do where its package is not installed', async () => {
    await using directory = temporaryDirectory();
    const copy = join(directory.path, 'embedded-clickhouse.ts');
    copyFileSync(source, copy);
    copyFileSync(new URL('local-machine.ts', source), join(directory.path, 'local-machine.ts'));
    vi.stubEnv('PATH', directory.path);
    onTestFinished(() => void vi.unstubAllEnvs());
    const uninstalled: typeof import('../../src/embedded/embedded-clickhouse.ts') = await import(copy);

    await expect(uninstalled.startEmbeddedClickHouse({ dataDir: join(directory.path, 'data') })).rejects.toMatchObject({
      reason: 'not-installed',
      message: expect.stringContaining('CLICKHOUSE_URL'),
    });
    expect(existsSync(join(directory.path, 'data'))).toBe(false);
  });

  test('stops without waiting for idle connections, and leaves no process', async () => {
    await using directory = temporaryDirectory();
    const clickhouse = await startEmbeddedClickHouse({ dataDir: directory.path });
    await (await fetch(clickhouse.url, { method: 'POST', body: 'SELECT 1' })).text(); // fetch keeps the connection

    const stoppedAt = performance.now();
    await clickhouse.stop();

    expect(performance.now() - stoppedAt).toBeLessThan(3_000);
    expect(await clickhouse.exited).toEqual({ code: 0, signal: null });
    expect(isRunning(clickhouse.pid)).toBe(false);
  });

  test('starts and stops ten times in a row', async () => {
    await using directory = temporaryDirectory();
    for (let round = 0; round < 10; round++) {
      const clickhouse = await startEmbeddedClickHouse({ dataDir: directory.path });
      await clickhouse.stop();
      expect(await clickhouse.exited).toEqual({ code: 0, signal: null });
    }
  });

  test('ends when its parent is killed', async () => {
    await using directory = temporaryDirectory();
    await using parent = await startParent(directory.path);
    expect(isRunning(parent.serverPid)).toBe(true);

    parent.signal('SIGKILL');

    await expect.poll(() => isRunning(parent.serverPid), { timeout: 60_000 }).toBe(false);
  });

  test('leaves Ctrl-C to its parent', async () => {
    await using directory = temporaryDirectory();
    await using parent = await startParent(directory.path);

    parent.signal('SIGINT');
    await delay(500);

    expect(await (await fetch(`${parent.url}/ping`)).text()).toBe('Ok.\n');
  });
});

async function createNumbers(clickhouse: TestClickHouse): Promise<void> {
  await clickhouse.command('CREATE TABLE numbers (n UInt64) ENGINE = MergeTree ORDER BY n');
}

/** A process that starts a server and ignores SIGINT. Signals go to its process group, as a terminal's do. */
async function startParent(dataDir: string) {
  const program = `
    import { startEmbeddedClickHouse } from ${JSON.stringify(source.href)};
    process.on('SIGINT', () => undefined);
    const { pid, url } = await startEmbeddedClickHouse({ dataDir: ${JSON.stringify(dataDir)} });
    console.log(JSON.stringify({ pid, url }));`;
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line]: Buffer[] = await once(parent.stdout, 'data');
  const { pid, url }: { pid: number; url: string } = JSON.parse(line.toString());
  return {
    url,
    serverPid: pid,
    signal: (signal: NodeJS.Signals) => process.kill(-parent.pid!, signal),
    async [Symbol.asyncDispose]() {
      if (parent.exitCode === null && parent.signalCode === null) parent.kill('SIGKILL');
      await expect.poll(() => isRunning(pid), { timeout: 60_000 }).toBe(false);
    },
  };
}

/** False for a process that has ended and that nobody has asked about yet. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

/** Local addresses of the sockets that listen on a port, in the kernel's spelling. */
function listeningAddresses(port: number): string[] {
  const sockets = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) =>
    readFileSync(file, 'latin1')
      .split('\n')
      .map((line) => line.trim().split(/\s+/)),
  );
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return sockets.flatMap(([, local = '', , state]) => (state === '0A' && local.endsWith(suffix) ? [local.slice(0, -suffix.length)] : []));
}

function temporaryDirectory() {
  const path = mkdtempSync(join(tmpdir(), 'clickhouse-test-'));
  return {
    path,
    async [Symbol.asyncDispose]() {
      rmSync(path, { recursive: true, force: true });
    },
  };
}
