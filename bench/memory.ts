import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { build, BUILD_SECONDS } from '../test/support/commands/build.ts';
import { memoryCgroup } from '../test/support/servers/cgroup.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { type ClickHouseProxy, startProxy } from '../test/support/servers/clickhouse-proxy.ts';
import { type Collector, type Environment, startCollector } from '../test/support/servers/collector.ts';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { freePorts } from '../test/support/servers/free-ports.ts';
import { EXPORT, grpcClient } from '../test/support/clients/grpc-client.ts';
import { hostileJson, hostileProtobuf } from '../test/support/generators/hostile-bodies.ts';
import { hostileLoads } from '../test/support/clients/hostile-load.ts';
import { type Headers, JSON_TYPE, PROTOBUF_TYPE } from '../test/support/clients/otlp-client.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../test/support/generators/payloads.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { bytesField, messageField } from '../test/support/generators/wire.ts';

/*
 * Checks that the kernel does not kill the built collector for its use of memory under any load, with default settings except
 * ENABLE_DISK_BUFFER, and that the collector accepts small requests again within seconds after each load. All loads run one after the
 * other on one collector. If it is killed, the next load gets a new one.
 */

const MB = 1024 ** 2;
const usage = `Checks that no load gets the built collector killed for memory. It runs in a cgroup with the memory limit of a container,
which needs root.

npm run memory:check -- [options]

  --limits LIST   memory limits, in MB (default 256,512,1024,2048)
  --modes LIST    memory, hanging (ClickHouse accepts requests and does not answer), disk buffer (default all)
  --only REGEX    only loads whose names match
  --seconds N     seconds of the last load, which mixes all others (default 60)
  --env LIST      settings to change: comma-separated NAME=value

Exit code 1 if a collector was killed, or accepted nothing any more.
`;
const values = commandLine(usage, {
  limits: { type: 'string', default: '256,512,1024,2048' },
  only: { type: 'string', default: '' },
  modes: { type: 'string', default: 'memory,hanging,disk buffer' },
  seconds: { type: 'string', default: '60' },
  env: { type: 'string', default: '' },
});
const mixedSeconds = positive('--seconds', values.seconds);

interface Encoded {
  readonly make: (bytes: number) => Buffer;
  readonly type: Headers;
}
const IDS = Buffer.concat([bytesField(1, Buffer.alloc(16, 1)), bytesField(2, Buffer.alloc(8, 1))]);

const MIXED = 'all of it, mixed';
/** The expected time of each other load. */
const LOAD_SECONDS = 4;

/** @param largestMb the largest body that this collector accepts */
type Load = (collector: Collector, largestMb: number) => Promise<unknown>;

const shapes: Readonly<Record<string, Encoded>> = {
  'spans of a gateway, Protobuf': { make: (bytes) => repeated(gatewayProtobuf({ spans: 100, seed: 1 }).body, bytes), type: PROTOBUF_TYPE },
  'spans of a gateway, JSON': { make: gatewayJson, type: JSON_TYPE },
  'tiny spans, Protobuf': {
    make: (bytes) => messageField(1, [messageField(2, [repeated(messageField(2, [IDS]), bytes)])]),
    type: PROTOBUF_TYPE,
  },
  'a string that does not compress': {
    make: (bytes) => withIds(messageField(9, [bytesField(1, Buffer.from('k')), messageField(2, [bytesField(7, randomBytes(bytes))])])),
    type: PROTOBUF_TYPE,
  },
  ...pick('protobuf', hostileProtobuf, [
    'attributes of distinct keys',
    'doubles of 300 digits',
    'long bytes',
    'one long kvlist',
    'control characters in an array',
    'a string in sixty arrays',
    'empty events',
    'resource attributes on many spans',
  ]),
  ...pick('json', hostileJson, [
    'empty spans',
    'one long string',
    'attributes of distinct keys',
    'one long kvlist',
    'an array of control characters',
    'brackets',
    'doubles of 300 digits',
    'long base64',
  ]),
};

const loads: Readonly<Record<string, Load>> = {
  ...Object.fromEntries(
    Object.entries(shapes).flatMap(([name, shape]): [string, Load][] => [
      [
        `8 of the largest bodies: ${name}`,
        (collector, largestMb) => times(8, () => collector.send(cached(name, shape, largestMb * MB * 0.98), shape.type)),
      ],
      [`64 bodies of 1 MB: ${name}`, (collector) => times(64, () => collector.send(cached(name, shape, MB), shape.type))],
      [`128 bodies of 400 KB: ${name}`, (collector) => times(128, () => collector.send(cached(name, shape, 400 * 1024), shape.type))],
    ]),
  ),
  ...Object.fromEntries(
    ['spans of a gateway, Protobuf', 'spans of a gateway, JSON', 'a string that does not compress', 'one long string, json'].flatMap(
      (name): [string, Load][] => [
        [`1 body of 60 MB: ${name}`, (collector) => times(1, () => collector.send(cached(name, shapes[name], 60 * MB), shapes[name].type))],
        [
          `8 bodies of 60 MB: ${name}`,
          (collector) => times(8, () => collector.send(cached(name, shapes[name], 60 * MB), shapes[name].type)),
        ],
      ],
    ),
  ),
  'gzip, 8 of the largest bodies': (collector, largestMb) =>
    times(8, () => collector.send(compressed('gzip', largestMb), { ...PROTOBUF_TYPE, 'content-encoding': 'gzip' }), 2),
  'zstd, 8 of the largest bodies': (collector, largestMb) =>
    times(8, () => collector.send(compressed('zstd', largestMb), { ...PROTOBUF_TYPE, 'content-encoding': 'zstd' }), 2),
  'gRPC, 8 of 60 MB': (collector) => grpc(collector, 8, 1, 60),
  'gRPC, 8 of the largest messages': (collector, largestMb) => grpc(collector, 8, 2, largestMb * 0.98),
  'gRPC, 64 of 1 MB, 5 times': (collector) => grpc(collector, 64, 5, 1),
  ...hostileLoads,
  [MIXED]: mixed,
};

let killed = 0;
let stuck = 0;

/** Small requests must be answered 200 again within this time after a load. */
const RECOVERY_MS = 20_000;

type Mode = 'memory' | 'hanging' | 'disk buffer';

async function check(limitMb: number, mode: Mode, proxy: ClickHouseProxy): Promise<void> {
  using cgroup = memoryCgroup(limitMb * MB);
  const dir = mkdtempSync(join(tmpdir(), 'memory-check-'));
  const peaks: [string, number, boolean][] = [];
  let collector: Collector | undefined;
  let largestMb = 0;
  try {
    for (const [name, load] of wanted) {
      progress.step(`${limitMb} MB, ${mode}: ${name}`, secondsOf(name));
      if (collector === undefined) {
        collector = await start(mode, cgroup.processes, dir, proxy);
        largestMb = await largest(collector);
      }
      const current = collector;
      const killsBefore = cgroup.kills();
      const startMs = performance.now();
      let peakBytes = 0;
      const sample = () => (peakBytes = Math.max(peakBytes, cgroup.usedBytes()));
      const sampling = setInterval(sample, 5);
      answers.clear();
      // A refusal may end with a connection that is cut.
      await load(current, largestMb).catch(() => {});
      clearInterval(sampling);
      sample();
      const wasKilled = cgroup.kills() > killsBefore;
      peaks.push([name, peakBytes / MB, wasKilled]);
      const statuses = [...answers].map(([status, count]) => `${status}: ${count}`).join(', ');
      const took = `${Math.round(peakBytes / MB)} MB, ${Math.round(performance.now() - startMs)} ms${wasKilled ? ', KILLED' : ''}`;
      progress.line(`${limitMb} MB, ${mode}: ${name}: ${took}; ${statuses}`);
      if (!wasKilled && current.pid > 0 && (await isAlive(current))) {
        if (mode !== 'hanging') await recover(current);
        continue;
      }
      if (!wasKilled) progress.line(current.output().slice(-3_000));
      killed++;
      await current.kill();
      collector = undefined;
    }
  } finally {
    await collector?.kill();
    proxy.restore();
    rmSync(dir, { recursive: true });
  }
  progress.clear();
  peaks.sort(([, a], [, b]) => b - a);
  const kills = peaks.filter(([, , wasKilled]) => wasKilled).length;
  const setting = `${limitMb} MB, ${mode}; bodies of up to ${largestMb} MB`;
  console.log(`\n${setting}: ${kills} of ${peaks.length} loads killed it. The most memory:`);
  for (const [name, peakMb, wasKilled] of peaks.filter((peak, index) => index < 8 || peak[2]))
    console.log(`  ${Math.round(peakMb)} MB  ${name}${wasKilled ? '  KILLED' : ''}`);
}

async function start(mode: Mode, cgroup: string, dir: string, proxy: ClickHouseProxy): Promise<Collector> {
  const [grpcPort] = await freePorts(1);
  const env: Environment = {
    GRPC_PORT: String(grpcPort),
    LOG_LEVEL: 'error',
    // The library that the image preloads; not a setting of the collector.
    ...(process.env.COLLECTOR_PRELOAD && { LD_PRELOAD: process.env.COLLECTOR_PRELOAD }),
    ...(mode === 'disk buffer' && { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir }),
    ...Object.fromEntries(
      values.env
        .split(',')
        .filter(Boolean)
        .map((setting) => setting.split('=', 2)),
    ),
  };
  proxy.restore();
  if (mode === 'disk buffer') return startCollector({ cgroup, env });
  const collector = await startCollector({ cgroup, env, clickhouse: proxy });
  if (mode === 'hanging') proxy.fail({ kind: 'stall' }, 'inserts');
  return collector;
}

/** The largest body that it accepts, in MB: the message that refuses a larger one has it. @throws Error without such a message */
async function largest(collector: Collector): Promise<number> {
  const answer = await collector
    .send(Buffer.alloc(0), { 'content-length': String(2000 * MB) })
    .catch((error: unknown) => ({ body: String(error) }));
  const [, megabytes] = /larger than (\d+) MB/.exec(answer.body.toString()) ?? [];
  if (megabytes === undefined) throw new Error(`no largest body in ${answer.body.toString()}`);
  return Number(megabytes);
}

async function isAlive(collector: Collector): Promise<boolean> {
  return collector.ready().then(
    () => true,
    () => false,
  );
}

/** Waits until small requests are accepted again. Counts a failure after RECOVERY_MS. */
async function recover(collector: Collector): Promise<void> {
  const startMs = performance.now();
  const small = gatewayProtobuf({ spans: 100, seed: 1 }).body;
  let answer = 'none';
  while (performance.now() - startMs < RECOVERY_MS) {
    const sent = await collector.send(small, PROTOBUF_TYPE).catch((error: unknown) => ({ status: 0, body: String(error) }));
    if (sent.status === 200) {
      const tookMs = Math.round(performance.now() - startMs);
      if (tookMs > 1_000) progress.line(`  accepts spans again after ${tookMs} ms`);
      return;
    }
    answer = `${sent.status} ${sent.body.toString()}`;
    await delay(200);
  }
  stuck++;
  progress.line(`  ACCEPTS NOTHING ANY MORE: ${answer}`);
}

async function times(atOnce: number, one: () => Promise<unknown>, turns = 1): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await Promise.all(Array.from({ length: atOnce }, () => one().then(note, () => note(undefined))));
}

/** Answers to the current load, by status or by code of the error. */
const answers = new Map<string, number>();

function note(answer: unknown): void {
  const { status, code } = (answer ?? {}) as { readonly status?: number; readonly code?: string };
  const name = String(status ?? code ?? 'cut');
  answers.set(name, (answers.get(name) ?? 0) + 1);
}

async function grpc(collector: Collector, atOnce: number, turns: number, megabytes: number): Promise<void> {
  const message = cached('spans of a gateway, Protobuf', shapes['spans of a gateway, Protobuf'], megabytes * MB);
  using client = grpcClient(collector.grpcPort!, { 'grpc.max_send_message_length': -1 });
  await times(atOnce, () => client.call(EXPORT, message, { 'x-hive-target-ref': 'target-1' }), turns);
}

/** Bodies of all shapes and sizes from 40 senders and 8 targets at the same time, for `--seconds`. */
async function mixed(collector: Collector, largestMb: number): Promise<void> {
  const end = performance.now() + mixedSeconds * 1000;
  const all = Object.entries(shapes);
  const sizes = [2_000, 50_000, 400 * 1024, MB, (largestMb * MB) / 4, largestMb * MB * 0.98];
  let next = 0;
  const sender: (number: number) => Promise<void> = async (number) => {
    while (performance.now() < end && (await isAlive(collector))) {
      const turn = next++;
      const [name, shape] = all[turn % all.length];
      const size = sizes[turn % sizes.length];
      if (turn % 29 === 0) await grpc(collector, 4, 1, largestMb / 2);
      else if (turn % 31 === 0)
        await times(1, () => collector.send(compressed('gzip', largestMb), { ...PROTOBUF_TYPE, 'content-encoding': 'gzip' }));
      else await times(1, () => collector.send(cached(name, shape, size), { ...shape.type, 'x-hive-target-ref': `target-${number % 8}` }));
    }
  };
  await Promise.all(Array.from({ length: 40 }, (_, number) => sender(number)));
}

// ── Bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────

function pick(
  encoding: 'protobuf' | 'json',
  from: Readonly<Record<string, (bytes: number) => Buffer>>,
  names: readonly string[],
): Readonly<Record<string, Encoded>> {
  return Object.fromEntries(
    names.map((name) => [`${name}, ${encoding}`, { make: from[name], type: encoding === 'json' ? JSON_TYPE : PROTOBUF_TYPE }]),
  );
}

const bodies = new Map<string, Buffer>();

/** A body of a shape. The last few are kept, because making them takes time. */
function cached(name: string, { make }: Encoded, bytes: number): Buffer {
  const key = `${name} ${Math.floor(bytes)}`;
  let body = bodies.get(key);
  if (body === undefined) {
    if (bodies.size > 12) bodies.clear();
    bodies.set(key, (body = make(Math.floor(bytes))));
  }
  return body;
}

function compressed(encoding: 'gzip' | 'zstd', megabytes: number): Buffer {
  return cached(
    encoding,
    {
      make: (bytes) =>
        (encoding === 'gzip' ? gzipSync : zstdCompressSync)(
          cached('spans of a gateway, Protobuf', shapes['spans of a gateway, Protobuf'], bytes),
        ),
      type: {},
    },
    megabytes * MB * 0.98,
  );
}

function repeated(piece: Uint8Array, bytes: number): Buffer {
  return Buffer.alloc(Math.max(1, Math.floor(bytes / piece.length)) * piece.length, piece);
}

function gatewayJson(bytes: number): Buffer {
  const text = hiveGatewayBatch({ spans: 100, seed: 1 }).body.toString();
  const resource = text.slice(text.indexOf('[') + 1, text.lastIndexOf(']'));
  return Buffer.from(
    `{"resourceSpans":[${Array.from({ length: Math.max(1, Math.floor(bytes / resource.length)) }, () => resource).join(',')}]}`,
  );
}

function withIds(fields: Buffer): Buffer {
  return messageField(1, [messageField(2, [messageField(2, [IDS, fields])])]);
}

// ── The run ──────────────────────────────────────────────────────────────────────────────────────────────────────

const wanted = Object.entries(loads).filter(([name]) => new RegExp(values.only).test(name));
const limits = values.limits.split(',').map((limit) => positive('--limits', limit));
const modes = values.modes.split(',') as Mode[];
const rounds = limits.length * modes.length;
const secondsOf = (name: string) => (name === MIXED ? mixedSeconds : LOAD_SECONDS);
const how = `with ${limits.length} limits of memory in ${modes.length} modes`;
using progress = startProgress(`Builds the collector, then puts ${wanted.length} loads on it ${how}.`, {
  steps: 1 + wanted.length * rounds,
  seconds: BUILD_SECONDS + rounds * wanted.reduce((sum, [name]) => sum + secondsOf(name), 0),
});
await build(progress);
await using clickhouse = await startClickHouse({ systemLogs: false });
await using proxy = await startProxy(clickhouse);
for (const limitMb of limits) {
  for (const mode of modes) await check(limitMb, mode, proxy);
}
process.exitCode = killed + stuck === 0 ? 0 : 1;
