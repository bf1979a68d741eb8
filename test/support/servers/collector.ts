import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Answer, type Headers, type RequestBody, send } from '../clients/otlp-client.ts';
import { freePorts } from './free-ports.ts';

export type Environment = Readonly<Record<string, string>>;

export interface CollectorOptions {
  /** Where the spans go. With none, the collector is started with a port where no ClickHouse is. */
  readonly clickhouse?: { readonly url: string };
  readonly env?: Environment;
  /** dist/main.js, or dist/local.js. */
  readonly program?: 'main' | 'local';
  /** A file that the process writes its id to before it starts: `cgroup.procs` of a cgroup. */
  readonly cgroup?: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** All that the process wrote, to stdout and then to stderr: in which order they came between the two is not known. */
  readonly output: string;
}

/** The built program as a process of its own, in a process group of its own. */
export interface Collector extends AsyncDisposable {
  /** http://127.0.0.1:PORT, HEALTH_PORT and HEALTHCHECK_PORT. */
  readonly url: string;
  readonly adminUrl: string;
  readonly healthcheckUrl: string;
  /** If GRPC_PORT is set. */
  readonly grpcPort: number | undefined;
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** What it has written so far, to stdout and then to stderr. */
  output(): string;
  /** POST /v1/traces; X-Hive-Target-Ref is set. */
  send(body: RequestBody, headers?: Headers): Promise<Answer>;
  /** The status of GET /ready. */
  ready(): Promise<number>;
  metrics(): Promise<Metrics>;
  /** Signals it, and waits for its end. */
  stop(signal?: NodeJS.Signals): Promise<Exit & { tookMs: number }>;
  /** Ctrl-C: SIGINT to the whole process group, as a terminal sends it. */
  interrupt(): Promise<Exit>;
  signal(signal: NodeJS.Signals): void;
  kill(): Promise<void>;
}

/** Values by name and labels, as they are written: `requests_total{status="401"}`; and by name alone, the first of that name. */
export type Metrics = ReadonlyMap<string, number>;

const PORTS = ['PORT', 'HEALTH_PORT', 'HEALTHCHECK_PORT'] as const;
const INGEST_THREADS = process.env.INGEST_THREADS ?? '1';
/** The names of the threads that read requests, unless a test sets INGEST_THREADS itself. */
export const ingestThreads: readonly string[] =
  INGEST_THREADS === '1' ? ['main'] : Array.from({ length: Number(INGEST_THREADS) }, (_, at) => `ingest-${at + 1}`);
/** What ingest threads may take beside the main thread, in MB (docs/architecture.md). */
export const ingestThreadsMb = INGEST_THREADS === '1' ? 0 : 45 * ingestThreads.length;
/** Long enough for a machine where many other processes run. */
const PATIENCE_MS = 60_000;
/** Another program can take a port between the moment it is found free and the start. */
const START_TRIES = 3;

/** Starts the program and waits until it listens; with a ClickHouse, until it takes spans. @throws with its output when it ends before */
export async function startCollector({ clickhouse, env = {}, program = 'main', cgroup }: CollectorOptions = {}): Promise<Collector> {
  for (let attempt = 1; ; attempt++) {
    const ports = await freePorts(PORTS.length + 1);
    const settings: Environment = {
      HOST: '127.0.0.1',
      INGEST_THREADS,
      // All from the start.
      INGEST_THREADS_MIN: env.INGEST_THREADS ?? INGEST_THREADS,
      ...Object.fromEntries(PORTS.map((name, index) => [name, String(ports[index])])),
      ...(program === 'main' && {
        DISABLE_AUTH: 'true',
        CLICKHOUSE_CREATE_SCHEMA: 'true',
        CLICKHOUSE_URL: clickhouse?.url ?? `http://127.0.0.1:${ports.at(-1)}`,
      }),
      ...env,
    };
    const running = spawnProgram(program, [], settings, cgroup);
    const collector = handle(running, settings);
    try {
      await untilListening(running, Number(settings.PORT));
      if (Number(settings.INGEST_THREADS) > 1) {
        const serving = async () => (await collector.metrics()).get('hive_collector_ingest_threads');
        await until(async () => (await serving()) === Number(settings.INGEST_THREADS_MIN), 'all ingest threads serve');
      }
      if (clickhouse !== undefined) await until(async () => (await collector.ready()) === 200, 'the collector takes spans');
      // What it has written can come through the pipe later than its answers.
      if (program === 'main' && ['info', 'debug', 'trace'].includes(settings.LOG_LEVEL ?? 'info'))
        await until(() => collector.output().includes('The collector has started'), 'the start is logged');
      return collector;
    } catch (error) {
      await collector.kill();
      if (attempt === START_TRIES || !running.output().includes('is in use by another program')) throw error;
    }
  }
}

/** Runs a built program to its end. Nothing is set but `env`. */
export async function runProgram(
  args: readonly string[],
  env: Environment,
  program: 'main' | 'local' | 'cli/ring' | 'cli/schema' | 'cli/dead-letters' = 'main',
): Promise<Exit> {
  const running = spawnProgram(program, args, env);
  const tooLong = setTimeout(() => running.child.kill('SIGKILL'), PATIENCE_MS);
  try {
    return await running.exited;
  } finally {
    clearTimeout(tooLong);
  }
}

/** Waits for a condition, looked at every few milliseconds. @throws when it is not met in time */
export async function until(condition: () => Promise<boolean> | boolean, what: string, timeoutMs = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Not so within ${timeoutMs} ms: ${what}`);
    await delay(20);
  }
}

interface Running {
  readonly child: ChildProcess;
  readonly exited: Promise<Exit>;
  readonly output: () => string;
}

function spawnProgram(program: string, args: readonly string[], env: Environment, cgroup?: string): Running {
  const path = fileURLToPath(new URL(`../../../dist/${program}.js`, import.meta.url));
  const command = [process.execPath, path, ...args];
  if (cgroup !== undefined) command.unshift('/bin/sh', '-c', 'echo $$ > "$0" && exec "$@"', cgroup);
  // Detached: in a process group of its own, as a shell starts it.
  const child = spawn(command[0], command.slice(1), {
    env: {
      PATH: process.env.PATH,
      NODE_INTERNALS_OFF: process.env.NODE_INTERNALS_OFF ?? '',
      ...env,
    },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const written = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) child[name].setEncoding('utf8').on('data', (text: string) => (written[name] += text));
  const output = () => written.stdout + written.stderr;
  const exited = once(child, 'close').then((ended) => {
    const [code, signal] = ended as [number | null, NodeJS.Signals | null];
    process.off('exit', killAtExit);
    return { code, signal, output: output() };
  });
  return { child, exited, output };
}

function handle({ child, exited, output }: Running, env: Environment): Collector {
  const grpcPort = env.GRPC_PORT === undefined ? undefined : Number(env.GRPC_PORT);
  const [url, adminUrl, healthcheckUrl] = PORTS.map((name) => `http://127.0.0.1:${env[name]}`);
  async function kill(): Promise<void> {
    child.kill('SIGKILL');
    await exited;
  }
  return {
    url,
    adminUrl,
    healthcheckUrl,
    grpcPort,
    pid: child.pid ?? 0,
    exited,
    output,
    send: (body, headers = {}) => send(`${url}/v1/traces`, body, { headers: { 'x-hive-target-ref': 'target-1', ...headers } }),
    ready: async () => (await send(`${adminUrl}/ready`, '', { method: 'GET' })).status,
    metrics: async () => parseMetrics((await send(`${adminUrl}/metrics`, '', { method: 'GET' })).body.toString()),
    async stop(signal = 'SIGTERM') {
      const startMs = performance.now();
      child.kill(signal);
      const exit = await exited;
      return { ...exit, tookMs: performance.now() - startMs };
    },
    async interrupt() {
      process.kill(-child.pid!, 'SIGINT');
      return exited;
    },
    signal: (signal) => void child.kill(signal),
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

async function untilListening(running: Running, port: number): Promise<void> {
  let ended: Exit | undefined;
  void running.exited.then((exit) => (ended = exit));
  await until(async () => {
    if (ended !== undefined) throw new Error(`The program ended (${ended.signal ?? `exit code ${ended.code}`}):\n${ended.output}`);
    return accepts(port);
  }, `the program listens on port ${port}`);
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

export function parseMetrics(text: string): Metrics {
  const metrics = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [, name, labels = '', value] = /^(\w+)(\{.*\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    if (!metrics.has(name)) metrics.set(name, Number(value));
    metrics.set(name + labels, Number(value));
  }
  return metrics;
}
