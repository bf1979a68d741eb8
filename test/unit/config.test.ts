import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { helpText } from '../../src/config/help.ts';
import { ConfigError, loadConfig } from '../../src/config/load-config.ts';
import { serverName } from '../../src/config/server-url.ts';
import type { Variable } from '../../src/config/variable.ts';
import { variables } from '../../src/config/variables.ts';
import { warningsOf } from '../../src/config/warnings.ts';
import { memoryDefaults, mostMemoryMb } from '../../src/runtime/memory-limit.ts';
import { mostMemory } from '../../src/transcode/transcoder.ts';

const MINIMAL = { CLICKHOUSE_URL: 'http://clickhouse:8123', HIVE_OTEL_AUTH_ENDPOINT: 'http://hive/otel-auth' };
const dir = mkdtempSync(join(tmpdir(), 'config-test-'));
afterAll(() => rmSync(dir, { recursive: true }));

function problemsOf(env: Record<string, string>, platform?: NodeJS.Platform): readonly string[] {
  try {
    loadConfig(env, platform);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('what follows from the memory limit', () => {
  test.each([
    [128, 4, { MEM_BUFFER_SIZE_MB: 32, MAX_REQUEST_MB: 1, TRANSCODER_THREADS: 1, INGEST_THREADS: 1, MAX_CONNECTIONS: 1024 }],
    [256, 4, { MEM_BUFFER_SIZE_MB: 64, MAX_REQUEST_MB: 5, TRANSCODER_THREADS: 1, INGEST_THREADS: 1, MAX_CONNECTIONS: 2048 }],
    [512, 4, { MEM_BUFFER_SIZE_MB: 128, MAX_REQUEST_MB: 14, TRANSCODER_THREADS: 1, INGEST_THREADS: 1, MAX_CONNECTIONS: 4096 }],
    [1024, 4, { MEM_BUFFER_SIZE_MB: 256, MAX_REQUEST_MB: 32, TRANSCODER_THREADS: 2, INGEST_THREADS: 2, MAX_CONNECTIONS: 8192 }],
    [2048, 16, { MEM_BUFFER_SIZE_MB: 512, MAX_REQUEST_MB: 64, TRANSCODER_THREADS: 4, INGEST_THREADS: 4, MAX_CONNECTIONS: 10_000 }],
    [65_536, 64, { MEM_BUFFER_SIZE_MB: 4096, MAX_REQUEST_MB: 64, TRANSCODER_THREADS: 4, INGEST_THREADS: 8, MAX_CONNECTIONS: 10_000 }],
    [65_536, 2, { MEM_BUFFER_SIZE_MB: 4096, MAX_REQUEST_MB: 64, TRANSCODER_THREADS: 1, INGEST_THREADS: 1, MAX_CONNECTIONS: 10_000 }],
  ])('%i MB, %i processors', (limitMb, processors, defaults) => {
    expect(memoryDefaults(limitMb * 1024 ** 2, processors, 'linux')).toEqual(defaults);
    expect(memoryDefaults(limitMb * 1024 ** 2, processors, 'darwin')).toEqual({ ...defaults, INGEST_THREADS: 1 });
  });

  test.each([256, 512, 1024, 2048, 4096, 65_536])('the defaults of %i MB fit, with no warning', (limitMb) => {
    const limitBytes = limitMb * 1024 ** 2;
    const env = Object.fromEntries(Object.entries(memoryDefaults(limitBytes, 64)).map(([name, value]) => [name, String(value)]));
    expect(warningsOf(loadConfig({ ...MINIMAL, ...env }), limitBytes)).toEqual([]);
    // The figure for transcoding is the one that worker threads go by.
    const { MEM_BUFFER_SIZE_MB, MAX_REQUEST_MB } = memoryDefaults(limitBytes, 64);
    expect(mostMemoryMb({ MEM_BUFFER_SIZE_MB, MAX_REQUEST_MB, INGEST_THREADS: 1 })).toBe(
      110 + MEM_BUFFER_SIZE_MB + mostMemory(MAX_REQUEST_MB * 1024 ** 2) / 1024 ** 2,
    );
  });

  test('settings that do not fit are a warning with the figures', () => {
    const tooLarge = { ...MINIMAL, MEM_BUFFER_SIZE_MB: '64', MAX_REQUEST_MB: '64' };
    expect(warningsOf(loadConfig({ ...tooLarge, INGEST_THREADS: '1' }), 256 * 1024 ** 2)).toEqual([
      'MEM_BUFFER_SIZE_MB=64 and MAX_REQUEST_MB=64 can use up to 846 MB, and the memory limit is 256 MB: ' +
        'more requests are refused, and the largest may never be accepted.',
    ]);
    expect(warningsOf(loadConfig({ ...tooLarge, INGEST_THREADS: '3' }), 256 * 1024 ** 2)[0]).toContain('can use up to 981 MB');
  });

  test('a limit that is too small for the defaults is one, too', () => {
    const limitBytes = 128 * 1024 ** 2;
    const env = Object.fromEntries(Object.entries(memoryDefaults(limitBytes, 64)).map(([name, value]) => [name, String(value)]));
    expect(warningsOf(loadConfig({ ...MINIMAL, ...env }), limitBytes)).toEqual([
      'The collector can use up to 184 MB, and the memory limit is 128 MB: more requests are refused, ' +
        'and large ones may never be accepted. ' +
        '256 MB is the minimum.',
    ]);
  });
});

describe('loadConfig', () => {
  test('needs nothing but ClickHouse and the auth endpoint', () => {
    expect(loadConfig(MINIMAL)).toMatchObject({
      ...MINIMAL,
      CLICKHOUSE_URL: [MINIMAL.CLICKHOUSE_URL],
      PORT: 4318,
      HEALTH_PORT: 9090,
      HEALTHCHECK_PORT: 13133,
      ACK_MODE: 'durable',
      DISABLE_AUTH: false,
    });
  });

  test('reports five mistakes as five problems, each with the variable, what was given and what is allowed', () => {
    const problems = problemsOf({
      ...MINIMAL,
      PORT: 'abc',
      BATCH_WORKERS: '0',
      LOG_LEVEL: 'loud',
      DISABLE_AUTH: 'maybe',
      CLICKHOUSE_TABLE: 'a\nb',
    });
    expect(problems).toEqual([
      'PORT is "abc". Allowed: a whole number from 1 to 65535.',
      'DISABLE_AUTH is "maybe". Allowed: true or false.',
      'CLICKHOUSE_TABLE is "a\\nb". Allowed: a name without control characters.',
      'BATCH_WORKERS is "0". Allowed: a whole number from 1 to 64.',
      'LOG_LEVEL is "loud". Allowed: fatal, error, warn, info, debug, trace, silent.',
    ]);
  });

  test('shows no value that may hold a password', () => {
    const problems = problemsOf({
      ...MINIMAL,
      HIVE_OTEL_AUTH_ENDPOINT: 'https://user:swordfish@hive.example/auth',
      CLICKHOUSE_URL: 'swordfish',
      DISABLE_AUTH: 'http://user:swordfish@',
    });
    expect(problems).toHaveLength(3);
    expect(problems.join(' ')).not.toContain('swordfish');
  });

  test('names both ways out when ClickHouse or the auth endpoint is missing', () => {
    const problems = problemsOf({});
    expect(problems).toHaveLength(2);
    expect(problems[0]).toMatch(/^CLICKHOUSE_URL is not set.*npm run local/);
    expect(problems[1]).toMatch(/^HIVE_OTEL_AUTH_ENDPOINT is not set.*DISABLE_AUTH=true/);
  });

  test('counts an empty variable as unset, and takes either case', () => {
    expect(loadConfig({ ...MINIMAL, PORT: '', DISABLE_AUTH: 'TRUE', LOG_LEVEL: 'Debug' })).toMatchObject({
      PORT: 4318,
      DISABLE_AUTH: true,
      LOG_LEVEL: 'debug',
    });
  });

  test.each(['1e3', '10.0', '0x10', ' 80', '80 ', '+80', '99999999999999999999'])('refuses %j as a number', (given) => {
    expect(problemsOf({ ...MINIMAL, PORT: given })).toHaveLength(1);
  });

  test('reads lists between commas, and refuses members that are none', () => {
    const { CORS_ALLOWED_ORIGINS, CORS_ALLOWED_HEADERS } = loadConfig({
      ...MINIMAL,
      CORS_ALLOWED_ORIGINS: ' https://a.example, https://*.b.example:8443 ,',
      CORS_ALLOWED_HEADERS: '*',
    });
    expect({ CORS_ALLOWED_ORIGINS, CORS_ALLOWED_HEADERS }).toEqual({
      CORS_ALLOWED_ORIGINS: ['https://a.example', 'https://*.b.example:8443'],
      CORS_ALLOWED_HEADERS: ['*'],
    });
    expect(loadConfig(MINIMAL).CORS_ALLOWED_ORIGINS).toEqual([]);
    for (const given of ['a.example', 'https://a.example/path', 'https://a.example https://b.example', '**']) {
      expect(problemsOf({ ...MINIMAL, CORS_ALLOWED_ORIGINS: given })).toEqual([
        expect.stringContaining(`CORS_ALLOWED_ORIGINS is ${JSON.stringify(given)}. Allowed: comma-separated origins`),
      ]);
    }
  });

  test('refuses two ports that are the same', () => {
    expect(problemsOf({ ...MINIMAL, PORT: '9090' })).toEqual(['HEALTH_PORT and PORT are both 9090. Allowed: different ports.']);
  });

  test('several ingest threads need Linux', () => {
    const env = { ...MINIMAL, INGEST_THREADS: '3', PORT: '9090' };
    expect(problemsOf(env, 'darwin')).toEqual([
      "INGEST_THREADS is 3, and darwin can't share a port between threads: that takes Linux. Allowed: 1.",
      expect.stringContaining('are both 9090'),
    ]);
    expect(problemsOf({ ...MINIMAL, INGEST_THREADS: '3' }, 'linux')).toEqual([]);
    expect(problemsOf({ ...MINIMAL, INGEST_THREADS: '1' }, 'darwin')).toEqual([]);
  });

  test('refuses more ingest threads from the start than there may be', () => {
    expect(problemsOf({ ...MINIMAL, INGEST_THREADS: '1', INGEST_THREADS_MIN: '2' }, 'linux')).toEqual([
      'INGEST_THREADS_MIN is 2, and INGEST_THREADS is 1. Allowed: at most INGEST_THREADS.',
    ]);
    expect(problemsOf({ ...MINIMAL, INGEST_THREADS: '2', INGEST_THREADS_MIN: '2' }, 'linux')).toEqual([]);
  });

  test('takes the age of connections by its earlier name, for both kinds', () => {
    expect(loadConfig(MINIMAL).MAX_CONNECTION_AGE_MS).toBe(0);
    expect(loadConfig({ ...MINIMAL, GRPC_MAX_CONNECTION_AGE_MS: '300000' }).MAX_CONNECTION_AGE_MS).toBe(300_000);
    expect(loadConfig({ ...MINIMAL, GRPC_MAX_CONNECTION_AGE_MS: '5', MAX_CONNECTION_AGE_MS: '5' }).MAX_CONNECTION_AGE_MS).toBe(5);
    expect(problemsOf({ ...MINIMAL, GRPC_MAX_CONNECTION_AGE_MS: '5', MAX_CONNECTION_AGE_MS: '6' })).toEqual([
      'MAX_CONNECTION_AGE_MS is 6, and GRPC_MAX_CONNECTION_AGE_MS, its earlier name, is 5. Allowed: one of them.',
    ]);
    expect(problemsOf({ ...MINIMAL, GRPC_MAX_CONNECTION_AGE_MS: 'soon' })).toHaveLength(1);
  });

  test('reads a secret from a file, without its last line break', () => {
    const file = join(dir, 'password');
    writeFileSync(file, 's3cret\n');
    expect(loadConfig({ ...MINIMAL, CLICKHOUSE_PASSWORD_FILE: file }).CLICKHOUSE_PASSWORD).toBe('s3cret');
    expect(problemsOf({ ...MINIMAL, CLICKHOUSE_PASSWORD: 'other', CLICKHOUSE_PASSWORD_FILE: file })).toEqual([
      'CLICKHOUSE_PASSWORD_FILE and CLICKHOUSE_PASSWORD are both set. Allowed: one of them.',
    ]);
    expect(problemsOf({ ...MINIMAL, CLICKHOUSE_PASSWORD_FILE: join(dir, 'nowhere') })[0]).toMatch(/can't be read \(ENOENT\)/);
  });

  test('takes several servers of ClickHouse, each once', () => {
    expect(loadConfig({ ...MINIMAL, CLICKHOUSE_URL: 'http://a:8123, https://b:8443' }).CLICKHOUSE_URL).toEqual([
      'http://a:8123',
      'https://b:8443',
    ]);
    for (const list of ['http://a:8123,', 'http://a:8123,b', 'http://a:8123,http://me:pw@a:8123/'])
      expect(problemsOf({ ...MINIMAL, CLICKHOUSE_URL: list })).toHaveLength(1);
  });

  test('takes a path and a query in a URL of ClickHouse, and tells servers apart by the path', () => {
    const urls = ['https://proxy/a?key=1', 'https://proxy/b?key=1', 'https://proxy?key=1'];
    const config = loadConfig({ ...MINIMAL, CLICKHOUSE_URL: urls.join(',') });
    expect(config.CLICKHOUSE_URL).toEqual(urls);
    expect(config.CLICKHOUSE_URL.map(serverName)).toEqual(['https://proxy/a', 'https://proxy/b', 'https://proxy']);
    expect(serverName('http://me:swordfish@clickhouse:8123/?key=swordfish')).toBe('http://clickhouse:8123');
    for (const list of ['https://proxy/a,https://proxy/a/', 'https://proxy/a?key=1,https://proxy/a?key=2', 'https://proxy/a?key=1,2'])
      expect(problemsOf({ ...MINIMAL, CLICKHOUSE_URL: list })).toHaveLength(1);
  });

  test.each([
    'http://a:8123,http://b:8123/?user=me',
    'http://a:8123/?query=SELECT',
    'http://a:8123/?role=a&role=b',
    'http://a:8123/#x',
    'http://me:50%@a:8123',
    'http://a:8123;http://b:8123',
  ])('does not take %s for servers of ClickHouse', (list) => {
    expect(problemsOf({ ...MINIMAL, CLICKHOUSE_URL: list })).toEqual([expect.stringContaining('CLICKHOUSE_URL is not valid')]);
  });

  test.each([
    [{ CLICKHOUSE_HOST: 'clickhouse' }, 'http://clickhouse:8123'],
    [{ CLICKHOUSE_PROTOCOL: 'https', CLICKHOUSE_HOST: 'clickhouse' }, 'https://clickhouse:8443'],
    [{ CLICKHOUSE_PROTOCOL: 'HTTP', CLICKHOUSE_HOST: '10.0.0.1', CLICKHOUSE_PORT: '8124' }, 'http://10.0.0.1:8124'],
    [{ CLICKHOUSE_HOST: '::1', CLICKHOUSE_PORT: '80' }, 'http://[::1]:80'],
    // As Kubernetes has it for a Service that is called clickhouse.
    [{ CLICKHOUSE_HOST: 'clickhouse', CLICKHOUSE_PORT: 'tcp://10.96.0.7:8123' }, 'http://clickhouse:8123'],
  ])('makes the URL of ClickHouse of %j', (parts, url) => {
    expect(loadConfig({ ...parts, DISABLE_AUTH: 'true' }).CLICKHOUSE_URL).toEqual([url]);
  });

  test.each<[string, Record<string, string>]>([
    ['http://clickhouse:8123', { CLICKHOUSE_PROTOCOL: 'http', CLICKHOUSE_HOST: 'ClickHouse', CLICKHOUSE_PORT: '8123' }],
    ['http://clickhouse:8123', { CLICKHOUSE_PORT: 'tcp://10.96.0.7:9000' }],
    ['https://me:pw@clickhouse/path?key=1', { CLICKHOUSE_PROTOCOL: 'https', CLICKHOUSE_HOST: 'clickhouse', CLICKHOUSE_PORT: '443' }],
    ['http://[::1]:8123', { CLICKHOUSE_HOST: '0:0::1' }],
  ])('takes %s beside %j, which says the same', (url, parts) => {
    expect(loadConfig({ ...MINIMAL, ...parts, CLICKHOUSE_URL: url }).CLICKHOUSE_URL).toEqual([url]);
  });

  test.each([
    ['http://clickhouse:8123', { CLICKHOUSE_HOST: 'other' }, 'CLICKHOUSE_HOST'],
    ['http://clickhouse:8123', { CLICKHOUSE_HOST: 'clickhouse', CLICKHOUSE_PORT: '8124' }, 'CLICKHOUSE_HOST, CLICKHOUSE_PORT'],
    [
      'http://clickhouse:8123',
      { CLICKHOUSE_PROTOCOL: 'https', CLICKHOUSE_HOST: 'clickhouse', CLICKHOUSE_PORT: '8123' },
      'CLICKHOUSE_PROTOCOL, CLICKHOUSE_HOST, CLICKHOUSE_PORT',
    ],
    ['http://a:8123,http://b:8123', { CLICKHOUSE_HOST: 'a' }, 'CLICKHOUSE_HOST'],
  ])('refuses %s beside %j, which says something else', (url, parts, names) => {
    const file = join(dir, 'url');
    writeFileSync(file, url);
    const problem = `CLICKHOUSE_URL and ${names} name different servers. Allowed: one of them, or the same server in both.`;
    expect(problemsOf({ ...MINIMAL, ...parts, CLICKHOUSE_URL: url })).toEqual([problem]);
    expect(problemsOf({ ...MINIMAL, ...parts, CLICKHOUSE_URL: '', CLICKHOUSE_URL_FILE: file })).toEqual([problem]);
  });

  test.each(['clickhouse:8123', 'http://clickhouse', 'click house', 'a/b', 'me@clickhouse', '[::1', 'a%zz'])(
    'refuses %j as a host',
    (given) => {
      expect(problemsOf({ CLICKHOUSE_HOST: given, DISABLE_AUTH: 'true' })).toEqual([
        expect.stringContaining('Allowed: a host name or an IP address'),
      ]);
    },
  );

  test('wants https of both ways to say it, where there are certificates', () => {
    const file = join(dir, 'ca.pem');
    writeFileSync(file, '-----BEGIN CERTIFICATE-----\n');
    const env = { DISABLE_AUTH: 'true', CLICKHOUSE_HOST: 'clickhouse', CLICKHOUSE_TLS_CA_FILE: file };
    expect(problemsOf({ ...env, CLICKHOUSE_PROTOCOL: 'https' })).toEqual([]);
    expect(problemsOf(env)).toEqual([expect.stringContaining('only https:// URLs')]);
  });

  test('wants certificate and key together, files that are there, and https everywhere', () => {
    const file = join(dir, 'some.pem');
    writeFileSync(file, '-----BEGIN CERTIFICATE-----\n');
    const empty = join(dir, 'empty.pem');
    writeFileSync(empty, '');
    const https = { ...MINIMAL, CLICKHOUSE_URL: 'https://a:8443' };
    expect(problemsOf({ ...https, CLICKHOUSE_TLS_CERT_FILE: file, CLICKHOUSE_TLS_KEY_FILE: file })).toEqual([]);
    expect(problemsOf({ ...https, CLICKHOUSE_TLS_CERT_FILE: file })).toEqual([expect.stringContaining('are not both set')]);
    for (const none of [join(dir, 'nowhere'), dir, empty])
      expect(problemsOf({ ...https, CLICKHOUSE_TLS_CA_FILE: none })).toEqual([expect.stringContaining('the path of a readable PEM file')]);
    expect(problemsOf({ ...https, CLICKHOUSE_URL: 'https://a:8443,http://b:8123', CLICKHOUSE_TLS_CA_FILE: file })).toEqual([
      expect.stringContaining('only https:// URLs'),
    ]);
  });

  test('never shows a secret in a message', () => {
    const [problem] = problemsOf({ ...MINIMAL, CLICKHOUSE_URL: 'ftp://me:hunter2@clickhouse' });
    expect(problem).toMatch(/^CLICKHOUSE_URL is not valid/);
    expect(problem).not.toContain('hunter2');
  });

  test('reads no OTEL_ variable while self-tracing is off, and all of them while it is on', () => {
    const env = {
      ...MINIMAL,
      OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_EXPORTER_OTLP_HEADERS: 'swordfish',
      OTEL_TRACES_SAMPLER_ARG: '2',
    };
    expect(loadConfig(env)).toMatchObject({ OTEL_EXPORTER_OTLP_ENDPOINT: undefined, OTEL_TRACES_SAMPLER_ARG: 0.01 });
    const problems = problemsOf({ ...env, ENABLE_SELF_TRACING: 'true' });
    expect(problems.map((problem) => problem.split(' ')[0])).toEqual([
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'OTEL_EXPORTER_OTLP_PROTOCOL',
      'OTEL_EXPORTER_OTLP_HEADERS',
      'OTEL_TRACES_SAMPLER_ARG',
    ]);
    expect(problems.join(' ')).not.toContain('swordfish');
    expect(problemsOf({ ...MINIMAL, ENABLE_SELF_TRACING: 'true' })).toEqual([
      expect.stringContaining('OTEL_EXPORTER_OTLP_ENDPOINT is not set'),
    ]);
  });

  test('reads headers as OpenTelemetry writes them', () => {
    const env = { ...MINIMAL, ENABLE_SELF_TRACING: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'https://otel.example' };
    const { OTEL_EXPORTER_OTLP_HEADERS } = loadConfig({
      ...env,
      OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Bearer%20a%2Cb=, x-hive-target-ref = a/b/c,',
    });
    expect(OTEL_EXPORTER_OTLP_HEADERS).toEqual({ Authorization: 'Bearer a,b=', 'x-hive-target-ref': 'a/b/c' });
    for (const given of ['Authorization', '=x', 'a b=c', 'a=b%0d%0ac'])
      expect(problemsOf({ ...env, OTEL_EXPORTER_OTLP_HEADERS: given })).toHaveLength(1);
  });

  test('refuses credentials in the auth endpoint, where they could not be used', () => {
    expect(problemsOf({ ...MINIMAL, HIVE_OTEL_AUTH_ENDPOINT: 'http://me:pw@hive/auth' })).toHaveLength(1);
  });
});

describe('--help', () => {
  test('names every variable with its default', () => {
    for (const name of Object.keys(variables)) expect(helpText()).toMatch(new RegExp(`^${name}   \\((default|required|no default)`, 'm'));
  });

  test('is what docs/configuration.md says', async () => {
    const rows = Object.entries<Variable<unknown>>(variables).map(([name, variable]) => {
      const file = variable.secret ? ` May be in a file: \`${name}_FILE\`.` : '';
      // Most are numbers: only their range.
      const allowed = variable.allowed.replace(/^a whole number from (\S+ to \S+)(?: \((\w+)\))?$/, '$1 $2').trim();
      return `| \`${name}\` | ${defaultOf(variable)} | ${allowed} | ${variable.help}${file} |`;
    });
    const page = `# Configuration

Every setting is an environment variable. An empty variable counts as unset. This page is generated from
\`src/config/variables.ts\` (\`npx vitest run test/unit/config.test.ts -u\`).

| Variable | Default | Allowed | What it does |
|---|---|---|---|
${rows.join('\n')}
`;
    await expect(page).toMatchFileSnapshot('../../docs/configuration.md');
  });
});

function defaultOf({ fallback, fallbackRule, optional, orVariable }: Variable<unknown>): string {
  if (fallbackRule !== undefined) return fallbackRule;
  if (fallback === '' || (Array.isArray(fallback) && fallback.length === 0)) return 'empty';
  if (Array.isArray(fallback)) return `\`${fallback.join(', ')}\``;
  if (orVariable !== undefined) return `**required**, or \`${orVariable}\``;
  return fallback === undefined ? (optional ? '' : '**required**') : `\`${fallback as string | number | boolean}\``;
}

describe('warningsOf', () => {
  test.each([
    [{}, []],
    [{ DISABLE_AUTH: 'true' }, ['DISABLE_AUTH']],
    [{ ACK_MODE: 'received' }, ['ACK_MODE']],
    [{ ENABLE_SELF_TRACING: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4318/' }, ['ENABLE_SELF_TRACING']],
    [{ ENABLE_SELF_TRACING: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4319' }, []],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4318' }, []],
    [{ CLICKHOUSE_ASYNC_INSERT: 'true' }, ['CLICKHOUSE_ASYNC_INSERT']],
    [
      { CLICKHOUSE_ASYNC_INSERT: 'true', CLICKHOUSE_WAIT_FOR_ASYNC_INSERT: 'false' },
      ['CLICKHOUSE_WAIT_FOR_ASYNC_INSERT', 'CLICKHOUSE_ASYNC_INSERT'],
    ],
  ])('of %j names %j', (env, names) => {
    expect(warningsOf(loadConfig({ ...MINIMAL, ...env })).map((warning) => warning.split('=')[0])).toEqual(names);
  });
});
