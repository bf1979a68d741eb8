import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, cpSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { storedRows } from '../support/oracle/stored-rows.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { assemble, environment, execForm, readStages, runStage } from './dockerfile.ts';

/*
 * npm run image:check
 *
 * Where no container engine is: runs the steps of the Dockerfile in empty folders, and starts what comes out as the
 * image would: as its user, from a read-only file system, with its environment and its command.
 */

const CONTEXT = fileURLToPath(new URL('../../', import.meta.url));
/** What a distroless cc image holds of glibc and GCC, beside what the Dockerfile adds. */
const LIBRARIES = /^(ld-linux-.*|libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+|libatomic|libjemalloc|linux-vdso)\.so/;
const IMAGE_USER = '65532';
const isRoot = process.getuid?.() === 0;

function assert(holds: boolean, what: string): void {
  if (!holds) throw new Error(`Not so: ${what}`);
  console.log(`  ${what}`);
}

const megabytes = (path: string) =>
  `${(Number(execFileSync('du', ['-sk', path], { encoding: 'utf8' }).split('\t')[0]) / 1024).toFixed(1)} MB`;

const root = mkdtempSync(join(tmpdir(), 'image-check-'));
const data = join(root, 'data');
const app = join(root, 'app');
const node = join(root, 'node');
let collector: ChildProcess | undefined;
try {
  const stages = readStages(join(CONTEXT, 'Dockerfile'));
  const final = stages.get('final')!;
  console.log('Steps of the Dockerfile');
  for (const name of ['build', 'dependencies']) runStage(stages.get(name)!, CONTEXT, join(root, name));
  assemble(
    final,
    CONTEXT,
    { build: { workdir: '/build', dir: join(root, 'build') }, dependencies: { workdir: '/app', dir: join(root, 'dependencies') } },
    app,
  );
  cpSync(process.execPath, node);
  layOut();
  checkContent();
  await smokeTest(environment(final), execForm(final, 'ENTRYPOINT'), execForm(final, 'CMD'), execForm(final, 'HEALTHCHECK'));
} finally {
  collector?.kill('SIGKILL');
  if (!isRoot) execFileSync('chmod', ['-R', 'u+w', root]);
  rmSync(root, { recursive: true, force: true });
}

/** A tree that the image's user can read, and a folder that it can write to. */
function layOut(): void {
  mkdirSync(data);
  chmodSync(root, 0o755);
  if (isRoot) chownSync(data, Number(IMAGE_USER), Number(IMAGE_USER));
  else execFileSync('chmod', ['-R', 'a-w', app]);
}

function checkContent(): void {
  console.log('Content');
  assert(
    !['@chdb', 'ffi-rs', 'typescript', 'vitest', '@nestjs/cli'].some((name) => existsSync(join(app, 'node_modules', name))),
    'no embedded ClickHouse, no development tools',
  );
  assert(
    globSync('node_modules/**/{*.ts,*.mts,*.cts,*.map,README.md,test/*.js,docs}', { cwd: app }).length === 0,
    'no types, source maps, tests or pages of packages',
  );
  const natives = globSync('node_modules/**/*.node', { cwd: app });
  assert(natives.length === 1 && natives[0].endsWith(`/linux_${process.arch}/koffi.node`), "of binaries koffi's alone, for this platform");
  const needed = [node, ...natives.map((path) => join(app, path)), ...jemalloc()].flatMap(librariesOf);
  assert(
    needed.every((library) => LIBRARIES.test(library)),
    `no library is needed that the image lacks (${[...new Set(needed)].toSorted().join(' ')})`,
  );
  const { components } = JSON.parse(readFileSync(join(app, 'sbom.cdx.json'), 'utf8')) as {
    components: { name: string; version: string }[];
  };
  const listed = new Set(components.map(({ name, version }) => `${name}@${version}`));
  const packages = globSync('node_modules/**/package.json', { cwd: app }).filter((path) =>
    /node_modules\/(@[^/]+\/)?[^/@]+\/package\.json$/.test(path),
  );
  assert(
    packages.every((path) => listed.has(nameAndVersion(join(app, path)))),
    `the SBOM lists all ${packages.length} packages`,
  );
  console.log(`  node_modules ${megabytes(join(app, 'node_modules'))}, dist ${megabytes(join(app, 'dist'))}, node ${megabytes(node)}`);
}

function nameAndVersion(path: string): string {
  const { name, version } = JSON.parse(readFileSync(path, 'utf8')) as { name: string; version: string };
  return `${name}@${version}`;
}

function librariesOf(binary: string): string[] {
  return [...execFileSync('ldd', [binary], { encoding: 'utf8' }).matchAll(/^\s*(\S+)/gm)].map(([, path]) => path.split('/').at(-1)!);
}

function jemalloc(): string[] {
  return globSync('/usr/lib/*-linux-gnu/libjemalloc.so.2').slice(0, 1);
}

async function smokeTest(imageEnv: Record<string, string>, entrypoint: string[], cmd: string[], healthcheck: string[]): Promise<void> {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  const [port, healthPort, healthcheckPort] = await freePorts(3);
  const [preload] = jemalloc();
  if (preload === undefined) console.log('  (libjemalloc2 is not installed here: started without)');
  const env: Record<string, string> = {
    ...imageEnv,
    // Only because it is not the first process here, as it is in a container.
    TINI_SUBREAPER: '',
    LD_PRELOAD: preload ?? '',
    DISK_BUFFER_DIR: imageEnv.DISK_BUFFER_DIR.replace('/data', data),
    HOST: '127.0.0.1',
    PORT: String(port),
    HEALTH_PORT: String(healthPort),
    HEALTHCHECK_PORT: String(healthcheckPort),
    CLICKHOUSE_URL: clickhouse.url,
    DISABLE_AUTH: 'true',
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_MAX_SIZE_MB: '64',
  };

  console.log('Running it');
  const schema = spawnSync(...command([node, 'dist/cli/schema.js', 'apply'], env));
  assert(schema.status === 0, `the schema command creates the table${schema.status === 0 ? '' : `\n${schema.stderr?.toString()}`}`);
  const startMs = performance.now();
  const init = existsSync('/usr/bin/tini-static') ? ['/usr/bin/tini-static', ...entrypoint.slice(1, -1)] : [];
  collector = spawn(...command([...init, node, ...cmd], env));
  let output = '';
  for (const stream of [collector.stdout!, collector.stderr!]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const exited = once(collector, 'exit');
  const ready = () =>
    send(`http://127.0.0.1:${healthPort}/ready`, '', { method: 'GET' }).then(
      ({ status }) => status === 200,
      () => false,
    );
  await until(ready, 'it is ready').catch((error: unknown) => {
    throw new Error(`${String(error)}\n${output}`);
  });
  assert(
    true,
    `ready ${Math.round(performance.now() - startMs)} ms after its start${init.length > 0 ? ', under tini' : ' (no tini here)'}`,
  );

  const pid = Number(execFileSync('pgrep', ['--full', `^${node} ${cmd.join(' ')}$`], { encoding: 'utf8' }));
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  if (isRoot)
    assert(
      /^Uid:\t65532\t/m.test(status) && /^CapEff:\t0+$/m.test(status) && /^NoNewPrivs:\t1$/m.test(status),
      'as user 65532, without capabilities',
    );
  if (preload !== undefined) assert(readFileSync(`/proc/${pid}/maps`, 'utf8').includes('libjemalloc'), 'jemalloc is loaded');

  const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: 1 });
  const answer = await send(`http://127.0.0.1:${port}/v1/traces`, body, { headers: { 'x-hive-target-ref': 'target-1' } });
  assert(answer.status === 200, 'a trace is acknowledged');
  await until(async () => (await storedRows(clickhouse, traceIds)).length === 7, 'its spans are stored');
  assert(true, 'its spans are stored');
  assert(spawnSync(...command([node, ...healthcheck.slice(1)], env)).status === 0, 'HEALTHCHECK passes');

  collector.kill('SIGTERM');
  const [code] = (await exited) as [number | null];
  assert(code === 0, 'SIGTERM ends it with exit code 0');
  assert(spawnSync(...command([node, ...healthcheck.slice(1)], env)).status === 1, 'HEALTHCHECK fails then');
}

/** A command as the image runs it: as its user, with nothing writable but its volume. Without root, as this user. */
function command(words: string[], env: Record<string, string>): [string, string[], { cwd: string; env: Record<string, string> }] {
  const options = { cwd: app, env };
  if (!isRoot) return [words[0], words.slice(1), options];
  const ids = `--reuid ${IMAGE_USER} --regid ${IMAGE_USER} --clear-groups`;
  const unprivileged = `exec setpriv ${ids} --no-new-privs --bounding-set=-all -- "$@"`;
  const readOnly = `mount --bind "$0" "$0" && mount -o remount,bind,ro / && ${unprivileged}`;
  return ['/usr/bin/unshare', ['--mount', '/bin/sh', '-ec', readOnly, data, ...words], options];
}
