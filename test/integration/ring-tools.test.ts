import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { HEADER_BYTES, recordBytes, State } from '../../src/disk-buffer/record.ts';
import { Ring, tokenOf } from '../../src/disk-buffer/ring.ts';
import { RECORDS_START } from '../../src/disk-buffer/superblock.ts';
import { createStatements } from '../../src/storage/table.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import type { DialectName } from '../../src/transcode/columns/dialect.ts';
import { change, flip } from '../support/generators/damage.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { randomRequest } from '../support/generators/random-requests.ts';
import { Random } from '../support/generators/random.ts';
import { expectedRows } from '../support/oracle/expected-rows.ts';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';

const RING_BYTES = 4 * 1024 ** 2;
const TARGET = 'target-1';
const program = fileURLToPath(new URL('../../src/cli/ring.ts', import.meta.url));
const base = mkdtempSync(join(tmpdir(), 'ring-tools-'));
afterAll(() => rmSync(base, { recursive: true }));

let dir = '';
let path = '';
let directories = 0;
beforeEach(() => {
  dir = join(base, String(directories++));
  mkdirSync(dir);
  path = join(dir, 'ring');
});

function tool(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: 'utf8', maxBuffer: 1024 ** 3 });
  return { status, stdout, stderr };
}

function frameOf(body: Uint8Array, dialect: DialectName = 'hive'): { frame: Buffer; rows: number } {
  const encoder = new BlockEncoder(dialect);
  encoder.add([body], 'protobuf', TARGET);
  return encoder.seal();
}

/** Six blocks of ten spans: two in an insert under way, one inserted, one dead, two waiting. */
function ringOfAllStates(): { bodies: Buffer[]; token: string; frames: Buffer[] } {
  const ring = Ring.open(path, RING_BYTES);
  const bodies = Array.from({ length: 6 }, (_, seed) => gatewayProtobuf({ spans: 10, seed }).body);
  const blocks = bodies.map((body) => frameOf(body));
  for (const { frame, rows } of blocks) ring.append(frame, rows, Date.now());
  const underWay = ring.take(20, 1e9)!;
  ring.complete(ring.take(1, 1)!, State.inserted);
  ring.complete(ring.take(1, 1)!, State.dead);
  ring.close();
  return { bodies, token: tokenOf(ring.id, underWay), frames: blocks.map(({ frame }) => frame) };
}

describe('inspect', () => {
  test('says what is in a ring, and changes nothing', () => {
    const { token } = ringOfAllStates();
    const before = readFileSync(path);
    const { status, stdout } = tool('inspect', dir, '--records');
    expect(status).toBe(0);
    expect(stdout).toContain('superblock 0: generation');
    expect(stdout).toMatch(/written {3}2 records, .* KB, 20 spans/);
    expect(stdout).toMatch(/assigned {2}2 records, .* KB, 20 spans/);
    expect(stdout).toMatch(/inserted {2}1 record, .*, 10 spans/);
    expect(stdout).toMatch(/dead {6}1 record, .*, 10 spans/);
    expect(stdout).toMatch(/oldest not inserted: written .*, \d+ seconds? ago/);
    expect(stdout).toContain(`1-2: 2 records`);
    expect(stdout).toContain(`token ${token}`);
    expect(stdout).toContain('damage\n  none');
    expect(stdout).toMatch(new RegExp(`^${RECORDS_START} 1 assigned\\(1-2\\) \\d+ 10 `, 'm'));
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('says which process has the ring open', () => {
    const ring = Ring.open(path, RING_BYTES);
    expect(tool('inspect', dir).stderr).toContain(`in use by a running collector (process ${process.pid})`);
    ring.close();
    expect(tool('inspect', dir).stderr).toBe('');
  });

  test('shows damage with its offset, in a file that was cut short too', () => {
    const { frames } = ringOfAllStates();
    change(path, RECORDS_START, flip);
    truncateSync(path, RECORDS_START + frames.slice(0, 5).reduce((sum, { length }) => sum + recordBytes(length), 0));
    const { stdout } = tool('inspect', dir);
    expect(stdout).toContain(`at ${RECORDS_START}: 1 record lost (header)`);
    expect(stdout).toContain('truncated: it had 4.0 MB');
    expect(statSync(path).size).toBeLessThan(RING_BYTES);
  });
});

describe('verify', () => {
  test('finds nothing wrong in a whole ring', () => {
    ringOfAllStates();
    const { status, stdout } = tool('verify', dir);
    expect(stdout).toContain('is intact: 5 records checked');
    expect(status).toBe(0);
  });

  test('names every damaged place', () => {
    const { frames } = ringOfAllStates();
    change(path, 30, flip);
    change(path, RECORDS_START + HEADER_BYTES + 20, flip);
    const third = RECORDS_START + frames.slice(0, 2).reduce((sum, { length }) => sum + recordBytes(length), 0);
    change(path, third + HEADER_BYTES, flip);
    const { status, stdout } = tool('verify', dir);
    expect(status).toBe(1);
    expect(stdout).toContain('at 0: superblock 0 is damaged');
    expect(stdout).toContain(`at ${RECORDS_START}: payload damaged, 1 record lost`);
    expect(stdout).toContain(`at ${third}: record 3 has a damaged payload`);
    expect(stdout).toContain('has 3 problems');
  });

  test('finds a payload that is no zstd frame under a good checksum', () => {
    const ring = Ring.open(path, RING_BYTES);
    ring.append(Buffer.from('no frame'), 1, 0);
    ring.close();
    const { status, stdout } = tool('verify', dir);
    expect(status).toBe(1);
    expect(stdout).toContain(`at ${RECORDS_START}: record 1 is not a zstd frame`);
  });
});

/** OTLP/JSON as the tool writes it, as Protobuf. */
function toProtobuf(line: string): Uint8Array {
  const request: OtlpRequest = JSON.parse(line, (key, value: unknown) => {
    if (typeof value !== 'string') return value;
    if (['traceId', 'spanId', 'parentSpanId'].includes(key)) return Buffer.from(value, 'hex');
    return key.endsWith('UnixNano') ? BigInt(value) : value;
  });
  return encodeRequest(request);
}

describe('export --format otlp', () => {
  test.each(['hive', 'otelcol'] as const)('gives back what was sent, whatever it was (%s)', (dialect) => {
    const ring = Ring.open(path, 64 * 1024 ** 2);
    const random = new Random(7);
    const shapes = ['manyKeys', 'vastKeys', 'manySpans', 'longTexts', 'empty'] as const;
    const requests = [
      ...shapes.map((shape) => randomRequest(random, shape)),
      ...Array.from({ length: 60 }, () => randomRequest(random, 'usual')),
    ];
    const sent = requests.map(({ canonical }) => expectedRows(canonical, TARGET, dialect)).filter((rows) => rows.length > 0);
    for (const { canonical } of requests) {
      const { frame, rows } = frameOf(canonical, dialect);
      if (rows > 0) ring.append(frame, rows, 0);
    }
    ring.close();
    const { status, stdout } = tool('export', dir, '--format', 'otlp');
    expect(status).toBe(0);
    const exported = stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => expectedRows(toProtobuf(line), TARGET, dialect));
    expect(exported).toEqual(sent);
  });

  test('leaves out what is inserted or dead', () => {
    const { bodies } = ringOfAllStates();
    const out = join(dir, 'spans.jsonl');
    expect(tool('export', dir, '--format', 'otlp', '--out', out).stderr).toMatch(/4 records, .*, 40 spans exported/);
    const exported = readFileSync(out, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => expectedRows(toProtobuf(line), TARGET, 'hive'));
    expect(exported).toEqual([0, 1, 4, 5].map((index) => expectedRows(bodies[index], TARGET, 'hive')));
  });
});

describe('export --format native', () => {
  test('writes inserts that a script stores once, however often it is run, and whatever was there already', async () => {
    await using clickhouse = await startClickHouse();
    for (const statement of createStatements('default', 'otel_traces')) await clickhouse.command(statement);
    const { token, frames } = ringOfAllStates();
    // The insert under way had arrived.
    await clickhouse.command(
      `INSERT INTO otel_traces SETTINGS insert_deduplication_token='${token}' FORMAT Native`,
      Buffer.concat(frames.slice(0, 2)),
      { 'content-encoding': 'zstd' },
    );
    const out = join(dir, 'replay');
    const { status, stderr } = tool('export', dir, '--format', 'native', '--out', out);
    expect(stderr).toMatch(/4 records, .*, 40 spans in 2 inserts are in/);
    expect(status).toBe(0);
    expect(readdirSync(out)).toContain(`${token}.native.zst`);
    for (let run = 0; run < 2; run++) {
      const replay = spawnSync(join(out, 'replay.sh'), {
        encoding: 'utf8',
        env: { PATH: process.env.PATH, CLICKHOUSE_URL: clickhouse.url },
      });
      expect(replay.stderr).toBe('');
      expect(replay.status).toBe(0);
      expect(await clickhouse.query('SELECT count() AS spans, uniqExact(SpanId) AS ids FROM otel_traces')).toEqual([
        { spans: '40', ids: '40' },
      ]);
    }
  });

  test('says of which block some rows may be stored under tokens of their own', () => {
    const { token } = ringOfAllStates();
    const out = join(dir, 'replay');
    expect(tool('export', dir, '--out', out).stderr).not.toContain('span by span');
    mkdirSync(join(dir, 'refused-blocks'));
    writeFileSync(join(dir, 'refused-blocks', `${token}.json`), '[]');
    expect(tool('export', dir, '--out', out).stderr).toContain(`${token}: some of its rows may already be in ClickHouse`);
  });

  test.each([
    ['a page with a 200', 200, {}, '<h1>Welcome</h1>', 'Welcome'],
    ['nothing with a 200', 200, {}, '', '200 OK'],
    ['an exception in the header of a 200', 200, { 'X-ClickHouse-Query-Id': '1', 'X-ClickHouse-Exception-Code': '241' }, '', '241'],
    ['a refusal', 500, {}, 'Code: 241. DB::Exception: Memory limit', 'Memory limit'],
  ])('and that takes %s for a failure', async (_, code, headers, body, message) => {
    ringOfAllStates();
    const out = join(dir, 'replay');
    tool('export', dir, '--format', 'native', '--out', out);
    const server = createServer((request, response) => request.resume().on('end', () => response.writeHead(code, headers).end(body)));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const child = spawn(join(out, 'replay.sh'), {
      env: { PATH: process.env.PATH, CLICKHOUSE_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
    });
    const [stderr, [status]] = await Promise.all([text(child.stderr), once(child, 'close')]);
    server.close();
    expect(stderr).toContain(message);
    expect(status).toBe(1);
  });
});

describe('the command line', () => {
  test('explains itself', () => {
    expect(tool('--help')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('npm run ring -- export DIR --format native --out DIR2'),
    });
  });

  test.each([
    [['look', '.'], 2, 'Unknown command: look'],
    [['inspect'], 2, 'inspect needs the directory'],
    [['inspect', '/nowhere'], 1, 'There is no directory /nowhere'],
    [['inspect', tmpdir()], 1, 'it has no file called ring'],
    [['export', '.'], 2, 'needs --out'],
    [['export', '.', '--format', 'csv'], 2, '--format is csv. Allowed: native, otlp.'],
    [['inspect', '.', '--all'], 2, "Unknown option '--all'"],
  ])('%j is refused with exit code %i: %s', (args, status, message) => {
    expect(tool(...args)).toMatchObject({ status, stderr: expect.stringContaining(message), stdout: '' });
  });

  test('a file that is no ring, and one of another version, are told apart', () => {
    writeFileSync(path, Buffer.alloc(RING_BYTES, 'text'));
    expect(tool('verify', dir).stderr).toContain('neither of its superblocks is valid');
    writeFileSync(path, 'text');
    expect(tool('verify', dir).stderr).toContain('is not a disk buffer: it has 4 bytes');
    rmSync(path);
    ringOfAllStates();
    for (const at of [0, 4096]) change(path, at + 8, (bytes) => bytes.writeUInt32LE(7));
    expect(tool('verify', dir).stderr).toContain('has format version 7');
  });
});
