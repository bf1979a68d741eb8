import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { constants, connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, createServer as createNetServer, type Server } from 'node:net';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { RpcStatus } from '../../src/otlp/messages.ts';
import { connectRaw } from '../support/clients/raw-socket.ts';
import { JSON_TYPE, PROTOBUF_TYPE, send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, runProgram, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* What is sent to the wrong place, by senders to the collector and by the collector to what is no ClickHouse: each is said in words. */

let clickhouse: TestClickHouse;
let collector: Collector;
let grpcPort: number;

beforeAll(async () => {
  [grpcPort] = await freePorts(1);
  clickhouse = await startClickHouse({ systemLogs: false });
  collector = await startCollector({ clickhouse, env: { GRPC_PORT: String(grpcPort), LOG_LEVEL: 'info' } });
});
afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

/** The first line of the log with this message, and this setting if given: lines of ingest threads may come after later ones of others. */
async function logged(message: string, from = collector, variable = ''): Promise<Record<string, unknown>> {
  const line = () =>
    from
      .output()
      .split('\n')
      .find((text) => text.includes(`"msg":"${message}"`) && text.includes(variable));
  await until(() => Promise.resolve(line() !== undefined), `the log has: ${message}`);
  return JSON.parse(line()!) as Record<string, unknown>;
}

function messageOf(body: Buffer): string {
  return (RpcStatus.decode(body) as unknown as { message: string }).message;
}

const pem = (name: string) => readFileSync(new URL(`../support/servers/tls/${name}`, import.meta.url));
const page = (status: number, text: string) =>
  createServer((_request, response) => response.writeHead(status, { 'content-type': 'text/html' }).end(text));
const https = () => createTlsServer({ cert: pem('server.crt'), key: pem('server.key') }).on('tlsClientError', () => {});
const alert = () => createNetServer((socket) => socket.on('error', () => {}).end(Buffer.from('15030100020246', 'hex')));
/** As ClickHouse's port for its native protocol answers HTTP (TCPHandler::receiveHello). The embedded one can end itself with that. */
const native = () =>
  createNetServer((socket) =>
    socket
      .on('error', () => {})
      .once('data', () =>
        socket.end('HTTP/1.0 400 Bad Request\r\n\r\nPort 9000 is for clickhouse-client program\r\nYou must use port 8123 for HTTP.\r\n'),
      ),
  );
const ssh = () => createNetServer((socket) => socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.2\r\n'));
const PORTS = 'its HTTP port (8123, or 8443 with https://)';
const notClickHouse = (text: string) =>
  `The response is not from ClickHouse: ${JSON.stringify(text)}. Set ${PORTS} in CLICKHOUSE_URL, or a proxy that forwards to it.`;

async function urlOf(server: Server): Promise<string> {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  server.unref();
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A ClientHello as OpenSSL writes it, as far as its version. */
const CLIENT_HELLO = Buffer.from('160301010001000000fc0303' + '00'.repeat(16), 'hex');

describe('TLS sent to a port for plain HTTP', () => {
  const SAYS =
    'The request is not valid HTTP/1.1: TLS was sent to a port for plain HTTP. Use http://, or terminate TLS in front of the collector.';

  test.each(['url', 'adminUrl', 'healthcheckUrl'] as const)('%s answers in plain HTTP', async (url) => {
    using socket = await connectRaw(collector[url]);
    socket.write(CLIENT_HELLO);
    const answer = await socket.nextWholeAnswer();
    expect(answer).toMatchObject({ status: 400, headers: { 'connection': 'close', 'content-type': 'application/json' } });
    expect(JSON.parse(answer.body.toString())).toMatchObject({ message: SAYS });
  });

  test("a client's handshake fails, and the log names the port", async () => {
    const request = httpsRequest(`${collector.url.replace('http:', 'https:')}/v1/traces`, { method: 'POST' });
    request.end();
    const [error] = (await once(request, 'error')) as [NodeJS.ErrnoException];
    expect(error.message).toContain('wrong version number');
    const { port } = new URL(collector.url);
    expect(await logged('TLS was sent to a port for plain HTTP', collector, '"PORT"')).toMatchObject({
      variable: 'PORT',
      port: Number(port),
      client: '127.0.0.1',
    });
  });
});

describe('gRPC sent to a port for HTTP/1.1', () => {
  test('the client is told in the debug data of a GOAWAY, and the log names both ports', async () => {
    const session = connectHttp2(collector.url);
    session.on('error', () => {});
    const call = session.request({ ':method': 'POST', ':path': '/opentelemetry.proto.collector.trace.v1.TraceService/Export' });
    call.on('error', () => {});
    const [code, lastStream, debugData] = (await once(session, 'goaway')) as [number, number, Buffer];
    expect({ code, lastStream }).toEqual({ code: constants.NGHTTP2_HTTP_1_1_REQUIRED, lastStream: 0 });
    expect(debugData.toString()).toBe(
      'gRPC (HTTP/2) was sent to a port for HTTP/1.1. OTLP/gRPC has its own port, GRPC_PORT, which is off by default.',
    );
    const { port } = new URL(collector.url);
    expect(await logged('gRPC (HTTP/2) was sent to a port for HTTP/1.1')).toMatchObject({ variable: 'PORT', port: Number(port), grpcPort });
  });
});

describe('what is not HTTP/2 sent to the port for gRPC', () => {
  let httpPort: number;
  let grpcUrl: string;
  beforeAll(() => {
    httpPort = Number(new URL(collector.url).port);
    grpcUrl = `http://127.0.0.1:${grpcPort}`;
  });
  const saysWhereTo = () => `This port is for OTLP/gRPC (HTTP/2). Send OTLP/HTTP to POST /v1/traces on port ${httpPort} (PORT).`;

  test('HTTP/1.1 is answered where to send traces, after a large body too, and the log names both ports', async () => {
    for (const body of [gatewayProtobuf({ spans: 3, seed: 3 }).body, Buffer.alloc(4 * 1024 ** 2)]) {
      const { status, headers, body: answer } = await send(`${grpcUrl}/v1/traces`, body, { headers: PROTOBUF_TYPE });
      expect({ status, connection: headers.connection, ...JSON.parse(answer.toString()) }).toMatchObject({
        status: 400,
        connection: 'close',
        message: saysWhereTo(),
      });
    }
    expect(await logged('HTTP/1.1 was sent to the port for gRPC')).toMatchObject({
      variable: 'GRPC_PORT',
      port: grpcPort,
      client: '127.0.0.1',
      httpPort,
    });
  });

  test('so is HTTP/1.1 whose first byte comes alone', async () => {
    using socket = await connectRaw(grpcUrl);
    socket.write('P');
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.write('OST /v1/traces HTTP/1.1\r\nHost: collector\r\n\r\n');
    expect(JSON.parse((await socket.nextWholeAnswer()).body.toString())).toMatchObject({ message: saysWhereTo() });
  });

  test('TLS is answered in plain HTTP, and is in the log', async () => {
    using socket = await connectRaw(grpcUrl);
    socket.write(CLIENT_HELLO);
    const { status, body } = await socket.nextWholeAnswer();
    expect({ status, ...JSON.parse(body.toString()) }).toMatchObject({
      status: 400,
      message: 'TLS was sent to a port for gRPC without TLS. Use http:// or "insecure", or terminate TLS in front of the collector.',
    });
    const line = { variable: 'GRPC_PORT', port: grpcPort, client: '127.0.0.1' };
    expect(await logged('TLS was sent to the port for gRPC')).toMatchObject(line);
  });
});

describe('the wrong path', () => {
  test.each([
    ['/', 'Not found. Send traces to POST /v1/traces.'],
    ['/v1/trace', 'Not found. Send traces to POST /v1/traces.'],
    ['/v1/metrics', 'Not found: /v1/metrics. This collector accepts only traces, at POST /v1/traces.'],
    ['/v1/logs', 'Not found: /v1/logs. This collector accepts only traces, at POST /v1/traces.'],
    ...['/api/traces', '/api/v2/spans', '/api/v1/spans'].map((path) => [
      path,
      `Not found: ${path}. This collector accepts only OTLP: send traces to POST /v1/traces with an OTLP exporter.`,
    ]),
  ])('%s', async (path, says) => {
    const { status, body } = await send(`${collector.url}${path}`, '{}', { headers: JSON_TYPE });
    expect({ status, ...JSON.parse(body.toString()) }).toMatchObject({ status: 404, message: says });
  });

  test.each(['adminUrl', 'healthcheckUrl'] as const)('traces sent to %s are answered where to send them', async (url) => {
    const { body: spans } = gatewayProtobuf({ spans: 3, seed: 1 });
    const says = `This port is for health checks. Send traces to POST /v1/traces on port ${new URL(collector.url).port} (PORT).`;
    for (const host of ['127.0.0.1', 'collector']) {
      const { status, headers, body } = await send(`${collector[url]}/v1/traces`, spans, { headers: { ...PROTOBUF_TYPE, host } });
      expect({ status, type: headers['content-type'], message: messageOf(body) }).toEqual({
        status: 404,
        type: 'application/x-protobuf',
        message: says,
      });
    }
  });
});

describe('a body without a Content-Type', () => {
  test('is refused with the reason if it is not Protobuf', async () => {
    const { status, body } = await collector.send('{"resourceSpans":[]}');
    expect(status).toBe(400);
    expect(messageOf(body)).toMatch(
      /^The header Content-Type is missing, so the body was read as Protobuf \(application\/x-protobuf\)\. It is malformed: ./,
    );
  });

  test('is taken if it is', async () => {
    expect((await collector.send(gatewayProtobuf({ spans: 3, seed: 2 }).body)).status).toBe(200);
  });
});

describe('CLICKHOUSE_URL that names no HTTP port of ClickHouse', () => {
  test.each<[title: string, url: () => string | Promise<string>, reason: () => string]>([
    [
      'https:// of a plain port',
      () => clickhouse.url.replace('http:', 'https:'),
      () => 'The server does not speak TLS on this port. Set http:// in CLICKHOUSE_URL, or the port for https:// (8443).',
    ],
    [
      'its native port',
      () => urlOf(native()),
      () => "This is ClickHouse's port for its native protocol. Set its HTTP port, 8123, in CLICKHOUSE_URL.",
    ],
    [
      'http:// of a port for TLS that closes',
      () => urlOf(https()),
      () => 'The server closed the connection without an answer (socket hang up). If this port is for TLS, set https:// in CLICKHOUSE_URL.',
    ],
    [
      'http:// of a port for TLS that sends an alert',
      () => urlOf(alert()),
      () => 'The server speaks TLS on this port. Set https:// in CLICKHOUSE_URL, or the port for http:// (8123).',
    ],
    [
      'http:// of a port for TLS that says so',
      () => urlOf(page(400, 'Client sent an HTTP request to an HTTPS server.\n')),
      () => 'The server speaks TLS on this port. Set https:// in CLICKHOUSE_URL, or the port for http:// (8123).',
    ],
    [
      'a server of another protocol',
      () => urlOf(ssh()),
      () => `The server does not speak HTTP (Parse Error: Expected HTTP/, RTSP/ or ICE/). Set ${PORTS} in CLICKHOUSE_URL.`,
    ],
    [
      'a web server that answers 200',
      () => urlOf(page(200, '<html>Hello</html>')),
      () => notClickHouse('status 200 without the header X-ClickHouse-Query-Id'),
    ],
    [
      'a web server that answers 404',
      () => urlOf(page(404, `<html>\n<b>Not found</b>${'x'.repeat(1_000)}`)),
      () => notClickHouse(`<html> <b>Not found</b>${'x'.repeat(127)} …`),
    ],
    ['a web server that answers 302', () => urlOf(page(302, '')), () => notClickHouse('')],
  ])('%s', async (_, url, reason) => {
    const CLICKHOUSE_URL = await url();
    await using wrong = await startCollector({ env: { CLICKHOUSE_URL, LOG_LEVEL: 'info' } });
    expect(await logged('ClickHouse is not available; retrying', wrong)).toMatchObject({ server: CLICKHOUSE_URL, reason: reason() });
    await until(async () => {
      const { body } = await send(`${wrong.adminUrl}/health`, '', { method: 'GET' });
      return JSON.stringify(JSON.parse(body.toString())).includes(JSON.stringify(reason()));
    }, '/health says why');
    expect(await runProgram(['check'], { CLICKHOUSE_URL }, 'cli/schema')).toMatchObject({ code: 1, output: `${reason()}\n` });
  });
});

describe('a start that fails prints its reason on standard error, and nothing else', () => {
  let dir: string;
  let ring: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'collector-mistakes-'));
    ring = join(dir, 'ring');
    return () => rmSync(dir, { recursive: true, force: true });
  });
  const free = () => {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize;
  };
  const TB = 1024 ** 4;

  test.each<[title: string, env: Record<string, string>, prepare: () => void, says: () => string | RegExp]>([
    [
      'several wrong settings',
      { PORT: 'http', BATCH_WORKERS: '0' },
      () => {},
      () =>
        'The configuration has 2 problems:\n' +
        '  - PORT is "http". Allowed: a whole number from 1 to 65535.\n' +
        '  - BATCH_WORKERS is "0". Allowed: a whole number from 1 to 64.',
    ],
    [
      'a disk buffer that is damaged',
      {},
      () => writeFileSync(ring, Buffer.alloc(1024 ** 2, 0xff)),
      () => `${ring} is damaged: neither of its superblocks is valid. Nothing was changed. Move the file away to start with an empty one.`,
    ],
    [
      'a disk buffer that is a directory',
      {},
      () => mkdirSync(ring),
      () => `${ring} can't be opened (EISDIR). Set DISK_BUFFER_DIR to a directory that the collector may write to.`,
    ],
    [
      'a disk buffer that is larger than the disk',
      { DISK_BUFFER_MAX_SIZE_MB: String(TB / 1024 ** 2) },
      () => expect(free(), 'this test needs a disk with less than 1 TB free').toBeLessThan(TB),
      () =>
        new RegExp(
          `^The disk buffer needs ${TB} bytes in ${dir}, where \\d+ are free \\(errno 28\\)\\. ` +
            'Free disk space, or lower DISK_BUFFER_MAX_SIZE_MB\\.$',
        ),
    ],
  ])('%s', (_, env, prepare, says) => {
    prepare();
    const { status, stdout, stderr } = spawnSync(process.execPath, [fileURLToPath(new URL('../../dist/main.js', import.meta.url))], {
      env: {
        HOST: '127.0.0.1',
        CLICKHOUSE_URL: 'http://127.0.0.1:1',
        DISABLE_AUTH: 'true',
        ENABLE_DISK_BUFFER: 'true',
        DISK_BUFFER_DIR: dir,
        ...env,
      },
      encoding: 'utf8',
    });
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr.trimEnd()).toEqual(says() instanceof RegExp ? expect.stringMatching(says()) : says());
  });
});
