import { hostname } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectRaw } from '../support/clients/raw-socket.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector } from '../support/servers/collector.ts';

/* What pages in an operator's browser, and proxies with a Host of their own, get from the ports. */

let clickhouse: TestClickHouse;
let collector: Collector;
let withNames: Collector;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  [collector, withNames] = await Promise.all([
    startCollector({ clickhouse }),
    startCollector({ clickhouse, env: { ADMIN_ALLOWED_HOSTS: 'Status.example.com, *.corp.example.com' } }),
  ]);
});
afterAll(async () => {
  await Promise.all([collector, withNames].map((one) => one[Symbol.asyncDispose]()));
  await clickhouse[Symbol.asyncDispose]();
});

async function statusOf(url: string, lines: readonly string[]): Promise<number> {
  using socket = await connectRaw(url);
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  return Number((await socket.nextAnswer()).split(' ')[1]);
}

/** What a browser sends for a page of this site. */
const ask = (path: string, site: string, ...headers: string[]) =>
  statusOf(collector.adminUrl, get(path, 'Host: localhost', `Sec-Fetch-Site: ${site}`, ...headers));
const get = (path: string, ...headers: string[]) => [`GET ${path} HTTP/1.1`, ...headers];
const FOREIGN = [
  'evil.example',
  'evil.example:9090',
  'rebind.evil.example',
  '127.0.0.1.evil.example',
  'localhost.evil.example',
  'evil.com',
  'collector.svc.evil.example',
];
const OWN = [
  '127.0.0.1:9090',
  '10.1.2.3',
  '[::1]:9090',
  '[fd00::1]',
  'localhost:9090',
  'collector',
  'collector:9090',
  'collector.monitoring.svc',
  'collector.monitoring.svc.cluster.local:9090',
  'laptop.local',
  'host.docker.internal',
  'LOCALHOST',
  hostname(),
];

describe('the admin port', () => {
  test.each(FOREIGN)('shows nothing but probes to a page whose name %s has come to resolve to it', async (host) => {
    for (const path of ['/', '/status/events', '/debug/pprof/', '/debug/pprof/stats', '/debug/pprof/profile?seconds=1'])
      expect(await statusOf(collector.adminUrl, get(path, `Host: ${host}`)), path).toBe(403);
    for (const path of ['/health', '/ready', '/metrics', '/ready?verbose'])
      expect(await statusOf(collector.adminUrl, get(path, `Host: ${host}`)), path).toBe(200);
  });

  test.each(OWN)('is served as %s', async (host) => {
    for (const path of ['/', '/status/events', '/debug/pprof/', '/health', '/metrics'])
      expect(await statusOf(collector.adminUrl, get(path, `Host: ${host}`)), path).toBe(200);
  });

  test('is served to who names no host in HTTP/1.0, as old probes do', async () => {
    expect(await statusOf(collector.adminUrl, ['GET /status/events HTTP/1.0'])).toBe(200);
  });

  test('is served under the names that are set, and no others', async () => {
    for (const host of ['status.example.com', 'STATUS.example.com:443', 'a.corp.example.com', 'localhost'])
      expect(await statusOf(withNames.adminUrl, get('/status/events', `Host: ${host}`)), host).toBe(200);
    for (const host of ['example.com', 'corp.example.com', 'a.status.example.com', 'evilcorp.example.com'])
      expect(await statusOf(withNames.adminUrl, get('/status/events', `Host: ${host}`)), host).toBe(403);
  });

  test('does nothing for pages of other sites, save that a link may lead to its own pages', async () => {
    for (const path of [
      '/debug/pprof/profile?seconds=1',
      '/debug/pprof/heap?seconds=1',
      '/debug/pprof/flamegraph?seconds=1',
      '/status/events',
      '/metrics',
      '/',
    ]) {
      for (const site of ['cross-site', 'same-site'])
        expect(await ask(path, site, 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'), path).toBe(403);
    }
    const link = ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document'];
    expect(await ask('/', 'cross-site', ...link)).toBe(200);
    expect(await ask('/debug/pprof/', 'cross-site', ...link)).toBe(200);
    expect(await ask('/debug/pprof/profile?seconds=1', 'cross-site', ...link)).toBe(403);
    expect(await ask('/', 'cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe')).toBe(403);
    for (const site of ['same-origin', 'none']) expect(await ask('/debug/pprof/stats', site)).toBe(200);
  });
});

test.each([
  ['two headers Host', ['GET / HTTP/1.1', 'Host: a', 'Host: b']],
  ['the same Host twice', ['GET / HTTP/1.1', 'Host: a', 'host: a']],
  ['two headers Host in HTTP/1.0', ['GET / HTTP/1.0', 'Host: a', 'Host: b']],
  ['a Host with a space', ['GET / HTTP/1.1', 'Host: a b']],
  ['a Host with a path', ['GET / HTTP/1.1', 'Host: a/b']],
  ['a Host with a user', ['GET / HTTP/1.1', 'Host: user@a']],
  ['a Host with a port that is none', ['GET / HTTP/1.1', 'Host: a:b']],
  ['no Host', ['GET / HTTP/1.1', 'Accept: */*']],
  ['no version', ['GET /']],
  ['no version, and a Host', ['GET /', 'Host: a']],
  ['version 0.9', ['GET / HTTP/0.9', 'Host: a']],
  ['version 2.0', ['GET / HTTP/2.0', 'Host: a']],
])('a request with %s is answered 400 on every port', async (_what, lines) => {
  for (const url of [collector.url, collector.adminUrl, collector.healthcheckUrl]) {
    expect(await statusOf(url, lines)).toBe(400);
    // As one of a sender's, which goes by another way if it is plain.
    const sent = lines.map((line) => line.replace(/^GET \//, 'POST /v1/traces'));
    expect(await statusOf(url, [...sent, 'Content-Type: application/x-protobuf', 'Content-Length: 0'])).toBe(400);
  }
});
