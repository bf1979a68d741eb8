import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { variables } from '../../src/config/variables.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { startCollector, until } from '../support/servers/collector.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { storedRows } from '../support/oracle/stored-rows.ts';

/* examples/systemd: the unit as systemd-analyze reads it, and the collector with its variables. systemd itself does not run here. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = join(ROOT, 'examples/systemd');
const INSTALLED = '/opt/hive-otel-collector';
const unit = readFileSync(join(FOLDER, 'hive-otel-collector.service'), 'utf8');
const file = readFileSync(join(FOLDER, 'collector.env'), 'utf8');
const dir = mkdtempSync(join(tmpdir(), 'systemd-'));
afterAll(() => rmSync(dir, { recursive: true }));

/** Values of a setting, in order. */
function valuesOf(setting: string): string[] {
  return Array.from(unit.matchAll(new RegExp(`^${setting}=(.*)$`, 'gm')), ([, value]) => value);
}

function assignments(text: string): Record<string, string> {
  return Object.fromEntries(Array.from(text.matchAll(/^(\w+)=(.*)$/gm), ([, name, value]) => [name, value]));
}

/** As systemd sets them: %d is the folder of credentials, %S that of states. */
const ofUnit = assignments(
  valuesOf('Environment').join('\n').replaceAll('%d', join(dir, 'credentials')).replaceAll('%S', join(dir, 'state')),
);
const { NODE_ENV, ...environment } = { ...ofUnit, ...assignments(file) };

mkdirSync(join(dir, 'credentials'));
writeFileSync(join(dir, 'credentials', 'clickhouse-password'), 'swordfish\n');

test('its variables are there, with values that are allowed, and fit the rest of the unit', () => {
  expect(NODE_ENV).toBe('production');
  expect(Object.keys(environment).filter((name) => !Object.hasOwn(variables, name.replace(/_FILE$/, '')))).toEqual([]);
  const config = loadConfig(environment);
  expect(config).toMatchObject({ CLICKHOUSE_PASSWORD: 'swordfish', ENABLE_DISK_BUFFER: true, DISABLE_AUTH: false });
  expect(Number(valuesOf('TimeoutStopSec')[0]) * 1_000).toBeGreaterThan(config.SHUTDOWN_TIMEOUT_MS);
  expect(Number(valuesOf('LimitNOFILE')[0])).toBeGreaterThan(config.MAX_CONNECTIONS);
  expect(config.DISK_BUFFER_DIR).toContain(`/state/${valuesOf('StateDirectory')[0]}/`);
  expect(valuesOf('LoadCredential')).toEqual(['clickhouse-password:/etc/hive-otel-collector/clickhouse-password']);
});

test('its command is there after npm ci and npm run build, and stores spans with its variables', async () => {
  const [program, script] = valuesOf('ExecStart')[0].split(' ');
  expect(valuesOf('WorkingDirectory')).toEqual([INSTALLED]);
  expect(spawnSync(program.replace(INSTALLED, ROOT), [script, '--version'], { cwd: ROOT, encoding: 'utf8' })).toMatchObject({ status: 0 });

  const users =
    '<users><default><password/><networks><ip>127.0.0.1</ip></networks></default>' +
    '<hive><password>swordfish</password><networks><ip>127.0.0.1</ip></networks></hive></users>';
  await using clickhouse = await startClickHouse({ systemLogs: false, users });
  const { GRPC_PORT: _port, HIVE_OTEL_AUTH_ENDPOINT: _endpoint, ...env } = environment;
  await using collector = await startCollector({
    clickhouse,
    env: { ...env, CLICKHOUSE_URL: clickhouse.url, DISK_BUFFER_MAX_SIZE_MB: '8' },
  });
  await until(() => clickhouse.hasTable('otel_traces'), 'the table is there');
  const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: 1 });
  expect((await collector.send(body)).status).toBe(200);
  await until(async () => (await storedRows(clickhouse, traceIds)).length === 7, 'the spans are stored');
  expect(await collector.stop()).toMatchObject({ code: 0 });
});

describe.skipIf(spawnSync('systemd-analyze', ['--version']).status !== 0)('systemd-analyze', () => {
  const path = join(dir, 'hive-otel-collector.service');
  writeFileSync(path, unit.replaceAll(INSTALLED, ROOT.replace(/\/$/, '')));
  cpSync(join(FOLDER, 'collector.env'), join(dir, 'collector.env'));

  test('finds nothing wrong with the unit', () => {
    expect(spawnSync('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', path], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });

  test('finds it well protected', () => {
    const { status, stdout } = spawnSync('systemd-analyze', ['security', '--offline=true', '--threshold=20', path], { encoding: 'utf8' });
    expect({ status, overall: /Overall exposure level.*/.exec(stdout)?.[0] }).toMatchObject({ status: 0 });
  });
});
