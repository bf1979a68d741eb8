import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { createServer, type TlsOptions } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SPANS_PER_BLOCK, startRingBatching, stored, temporaryDir } from '../support/generators/ring-batching.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import type { Environment } from '../support/servers/collector.ts';

/* How the collector makes itself known to ClickHouse, and how it knows ClickHouse. */

let clickhouse: TestClickHouse;
let rings = 0;
const PATIENT = { timeout: 60_000 };
const dir = temporaryDir();

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(async () => {
  await clickhouse[Symbol.asyncDispose]();
  dir.remove();
});
beforeEach(() => clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC'));

function start(url: string, env: Environment = {}) {
  return startRingBatching(`${dir.path}/${rings++}`, [url], env);
}

describe('credentials in files', () => {
  const username = `${dir.path}/username`;
  const password = `${dir.path}/password`;
  const files = { CLICKHOUSE_USERNAME_FILE: username, CLICKHOUSE_PASSWORD_FILE: password };

  test('are read again when ClickHouse refuses them: a rotated secret needs no restart', async () => {
    writeFileSync(username, 'nobody\n');
    writeFileSync(password, 'old\n');
    await using batching = start(clickhouse.url, files);
    await batching.push(5);
    await expect
      .poll(() => batching.storage.availability.status, PATIENT)
      .toMatchObject({ state: 'down', reason: expect.stringContaining('nobody: Authentication failed') });

    writeFileSync(username, 'default\n');
    writeFileSync(password, '\n');
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: 5 * SPANS_PER_BLOCK, spans: 5 * SPANS_PER_BLOCK });
  });

  test('are not missed while the server takes those in hand', async () => {
    writeFileSync(username, 'default\n');
    writeFileSync(password, '\n');
    await using batching = start(clickhouse.url, files);
    const { availability } = batching.storage.availability.all[0];
    await availability.whenUp();
    rmSync(password);
    availability.check();
    await batching.push(5);
    await batching.drained();
    expect(availability.status).toEqual({ state: 'up' });
  });

  test('may be gone for a moment while they are rotated', async () => {
    writeFileSync(username, 'default\n');
    writeFileSync(password, '\n');
    await using batching = start(clickhouse.url, files);
    await batching.storage.availability.whenUp();
    await clickhouse.kill();
    rmSync(username);
    await batching.push(5);
    await clickhouse.restart();
    await expect
      .poll(() => batching.storage.availability.status, PATIENT)
      .toMatchObject({ state: 'down', reason: expect.stringContaining('ENOENT') });

    writeFileSync(username, 'default\n');
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: 5 * SPANS_PER_BLOCK, spans: 5 * SPANS_PER_BLOCK });
  });
});

const path = (name: string) => fileURLToPath(new URL(`../support/servers/tls/${name}`, import.meta.url));
const pem = (name: string) => readFileSync(path(name));

/** ClickHouse behind something that speaks TLS. */
async function startTls(options: TlsOptions = {}) {
  const heads: string[] = [];
  const server = createServer({ cert: pem('server.crt'), key: pem('server.key'), ca: pem('ca.crt'), ...options }, (client) => {
    const upstream = connect(Number(new URL(clickhouse.url).port), '127.0.0.1');
    for (const socket of [client, upstream]) socket.on('error', () => client.destroy() && upstream.destroy());
    client.once('data', (piece) => heads.push(piece.toString('latin1')));
    client.pipe(upstream).pipe(client);
  });
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** The first request of each connection. */
    heads,
    async [Symbol.asyncDispose]() {
      server.close();
      await Promise.resolve();
    },
  };
}

describe('https', () => {
  test('works with a certificate authority of the operator', async () => {
    await using tls = await startTls();
    await using batching = start(tls.url, { CLICKHOUSE_TLS_CA_FILE: path('ca.crt') });
    await batching.push(5);
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: 5 * SPANS_PER_BLOCK, spans: 5 * SPANS_PER_BLOCK });
  });

  test('is not spoken with a server that nobody vouches for', async () => {
    await using tls = await startTls();
    await using batching = start(tls.url);
    await batching.push(1);
    await expect
      .poll(() => batching.storage.availability.status, PATIENT)
      .toMatchObject({ state: 'down', reason: expect.stringMatching(/certificate/) });
    expect(tls.heads).toEqual([]);
  });

  test('shows a certificate of its own where one is asked for, with the password beside it', async () => {
    await using tls = await startTls({ requestCert: true, rejectUnauthorized: true });
    const both = {
      CLICKHOUSE_TLS_CA_FILE: path('ca.crt'),
      CLICKHOUSE_TLS_CERT_FILE: path('client.crt'),
      CLICKHOUSE_TLS_KEY_FILE: path('client.key'),
    };
    await using without = start(tls.url, { CLICKHOUSE_TLS_CA_FILE: path('ca.crt') });
    await expect.poll(() => without.storage.availability.status, PATIENT).toMatchObject({ state: 'down' });

    await using batching = start(tls.url, { ...both, CLICKHOUSE_USERNAME: 'nobody', CLICKHOUSE_PASSWORD: 'wrong' });
    await expect
      .poll(() => batching.storage.availability.status, PATIENT)
      .toMatchObject({ reason: expect.stringContaining('Authentication failed') });
    expect(tls.heads[0]).toMatch(/^authorization: Basic/im);
  });

  test('names the user by the certificate alone when there is no password', async () => {
    await using tls = await startTls({ requestCert: true, rejectUnauthorized: true });
    await using batching = start(tls.url, {
      CLICKHOUSE_TLS_CA_FILE: path('ca.crt'),
      CLICKHOUSE_TLS_CERT_FILE: path('client.crt'),
      CLICKHOUSE_TLS_KEY_FILE: path('client.key'),
      CLICKHOUSE_USERNAME: 'collector',
    });
    // Behind this proxy there is no certificate for ClickHouse to see, and it says so.
    await expect
      .poll(() => batching.storage.availability.status, PATIENT)
      .toMatchObject({ state: 'down', reason: expect.stringMatching(/certificate/i) });
    expect(tls.heads[0]).toMatch(/^x-clickhouse-ssl-certificate-auth: on/im);
    expect(tls.heads[0]).toMatch(/^x-clickhouse-user: collector/im);
    expect(tls.heads[0]).not.toMatch(/^authorization:/im);
  });
});

test('CLICKHOUSE_ASYNC_INSERT stores all the same', async () => {
  await using batching = start(clickhouse.url, { CLICKHOUSE_ASYNC_INSERT: 'true' });
  await batching.push(5);
  await batching.drained();
  expect((await stored([clickhouse])).rows).toBe(5 * SPANS_PER_BLOCK);
});
