import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config/load-config.ts';
import { variables } from '../../src/config/variables.ts';
import { warningsOf } from '../../src/config/warnings.ts';
import { localModeOn } from '../../src/embedded/local-machine.ts';
import { memoryDefaults } from '../../src/runtime/memory-limit.ts';
import { SentenceReader } from '../support/oracle/sentences.ts';

/*
 * docs/faq.md has every message that stops the start, and every line of the log: what varies in one is written as …
 * there. What senders are told is docs/operations.md's (operations.test.ts).
 */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const doc = readFileSync(`${ROOT}docs/faq.md`, 'utf8');
const rows = rowsOf(doc);
const paths = globSync('src/**/*.ts', { cwd: ROOT });
const sources = new SentenceReader(Object.fromEntries(paths.map((path) => [path, readFileSync(`${ROOT}${path}`, 'utf8')])));

// The commands print these for the directory that they are given.
const OF_COMMANDS = /^There is no |is not a disk buffer|can't be read \(…\)\.$|can't be resized: |^The schema has version/;
const errors = sources.errors(['DiskBufferError', 'LibcError', 'ListenError', 'SchemaError', 'EmbeddedClickHouseError']);
const { clickhouse } = localModeOn({ platform: 'darwin', arch: 'arm64', library: undefined, program: undefined });
const noClickHouse =
  clickhouse.kind === 'none'
    ? clickhouse.advice
        .replace(/(?<=start: ).*?(?=;)/, '…')
        .replace(/(?<=docker run ).*?(?=`)/, '…')
        .replace(/(?<=URL=)\S+(?=\.)/, '…')
    : '';
const startErrors = [...errors.texts.filter((text) => !OF_COMMANDS.test(text)), ...sources.printed().texts, noClickHouse];

const logged = sources.logged();
/** Lines that the check of a table brings: the log has them as they are. */
const tableWarnings = sources.returned('TableWarning');
/** Why a server is not available, as far as the collector says so itself. */
const NOT_OF_SERVERS = /^the collector is shutting down$|^Landlock |^pipe2 /;
const reasons = sources.errors(['Error', 'WrongServerError'], 'src/storage/').texts.filter((text) => !NOT_OF_SERVERS.test(text));
const logLines = [...logged.texts, ...tableWarnings.texts, ...reasons];

test('the texts of all places that write or throw one are known', () => {
  // The text of a LibcError is among them; the advice is `noClickHouse`.
  const libcError = 'src/disk-buffer/mapped-file.ts: error.message';
  const advice = ['src/start-local.ts: MACHINE.clickhouse.advice', 'src/embedded/embedded-clickhouse.ts: clickhouse.advice'];
  expect(new Set(errors.unknown)).toEqual(new Set([libcError, ...advice]));
  // A warning of the table: they are `tableWarnings`. And lines of ingest threads, which are known where they are written.
  expect(new Set(logged.unknown)).toEqual(new Set(['src/storage/storage.service.ts: warning', 'src/threads/thread-answers.ts: message']));
  expect(tableWarnings.unknown).toEqual([]);
  expect(startErrors).toContain('… is in use by another collector. Each collector needs its own directory: set DISK_BUFFER_DIR.');
  expect(startErrors.length).toBeGreaterThan(12);
  expect(logged.texts).toContain("Can't check whether ClickHouse lost a repeated insert");
  expect(logged.texts.length).toBeGreaterThan(14);
  expect(tableWarnings.texts).not.toEqual([]);
});

test.each(startErrors)('it says what to do about: %s', (text) => {
  expect(rows).toContain(text);
});

test.each(logLines)('it says what this line means: %s', (text) => {
  expect(rows).toContain(text);
});

const OK = { CLICKHOUSE_URL: 'http://clickhouse:8123', DISABLE_AUTH: 'true' };

/** Everything that can be wrong with the variables, and its row. */
const wrong: readonly (readonly [row: string, env: Readonly<Record<string, string>>])[] = [
  ['… is not set. Allowed: ….', { DISABLE_AUTH: 'true' }],
  [
    'HIVE_OTEL_AUTH_ENDPOINT is not set. Allowed: an http:// or https:// URL; or set DISABLE_AUTH=true to accept everyone.',
    { CLICKHOUSE_URL: 'http://clickhouse:8123' },
  ],
  ['… is …. Allowed: ….', { ...OK, PORT: 'http' }],
  ['… is not valid (the value is not shown). Allowed: ….', { ...OK, CLICKHOUSE_URL: 'ftp://clickhouse' }],
  ['…_FILE and … are both set. Allowed: one of them.', { ...OK, CLICKHOUSE_PASSWORD: 'one', CLICKHOUSE_PASSWORD_FILE: '/dev/null' }],
  [
    "…_FILE is …, which can't be read (…). Allowed: a readable file that holds the value of ….",
    { ...OK, CLICKHOUSE_PASSWORD_FILE: '/nowhere' },
  ],
  [
    'CLICKHOUSE_URL and … name different servers. Allowed: one of them, or the same server in both.',
    { ...OK, CLICKHOUSE_HOST: 'other', CLICKHOUSE_PORT: '9000' },
  ],
  [
    'CLICKHOUSE_TLS_CERT_FILE and CLICKHOUSE_TLS_KEY_FILE are not both set. Allowed: both or none.',
    { ...OK, CLICKHOUSE_URL: 'https://clickhouse:8443', CLICKHOUSE_TLS_CERT_FILE: `${ROOT}test/support/servers/tls/ca.crt` },
  ],
  [
    'CLICKHOUSE_TLS_CA_FILE or CLICKHOUSE_TLS_CERT_FILE is set, and CLICKHOUSE_URL has a URL that is not https://. ' +
      'Allowed: only https:// URLs.',
    { ...OK, CLICKHOUSE_TLS_CA_FILE: `${ROOT}test/support/servers/tls/ca.crt` },
  ],
  [
    'ENABLE_SELF_TRACING is true, and OTEL_EXPORTER_OTLP_ENDPOINT is not set. Allowed: an http:// or https:// URL.',
    { ...OK, ENABLE_SELF_TRACING: 'true' },
  ],
  ['… and … are both …. Allowed: different ports.', { ...OK, PORT: '9090' }],
];

test.each(wrong)('it knows: %s', (row, env) => {
  const problems = problemsOf(env);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatch(
    new RegExp(
      `^${row
        .split('…')
        .map((part) => RegExp.escape(part))
        .join('.+')}`,
    ),
  );
  expect(rows).toContain(row);
});

test('it knows every warning of the start', () => {
  const intoItself = { ENABLE_SELF_TRACING: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4318' };
  const config = loadConfig({
    ...OK,
    ...intoItself,
    MAX_REQUEST_MB: '1000',
    ACK_MODE: 'received',
    CLICKHOUSE_ASYNC_INSERT: 'true',
    CLICKHOUSE_WAIT_FOR_ASYNC_INSERT: 'false',
  });
  const warnings = warningsOf(config, 512 * 1024 ** 2);
  expect(warnings).toHaveLength(6);
  const small = 128 * 1024 ** 2;
  const { MEM_BUFFER_SIZE_MB, MAX_REQUEST_MB } = memoryDefaults(small);
  const withDefaults = warningsOf({ ...loadConfig(OK), DISABLE_AUTH: false, MEM_BUFFER_SIZE_MB, MAX_REQUEST_MB }, small);
  expect(withDefaults).toHaveLength(1);
  for (const warning of [...warnings, ...withDefaults]) {
    expect(rows).toContain(warning.replaceAll(/(?<==)\d+(?= )|(?<!\. |\d)\d+(?= MB)/g, '…'));
  }
});

test('it has no row of the start or the log that nothing writes any more', () => {
  const [, start, log] = doc.split(/^## /m);
  const known = new Set([...startErrors, ...wrong.map(([row]) => row), 'The configuration has … problems:']);
  expect(rowsOf(start).filter((row) => !known.has(row))).toEqual([]);
  const inLog = new Set(logLines);
  expect(rowsOf(log.split('Warnings of the start:')[0]).filter((row) => !inLog.has(row))).toEqual([]);
});

test('it names only variables that there are', () => {
  const known = new Set([
    ...Object.keys(variables),
    'LOCAL_DATA_DIR',
    'LOCAL_CLICKHOUSE_PORT',
    'OTEL_METRICS_EXPORTER',
    'OTEL_LOGS_EXPORTER',
  ]);
  const named = Array.from(doc.matchAll(/`([A-Z]+(?:_[A-Z]+)+)[`=]/g), ([, name]) => name);
  expect(named.filter((name) => !known.has(name))).toEqual([]);
});

/** The first cells of the tables. */
function rowsOf(text: string): readonly string[] {
  return Array.from(text.matchAll(/^\| (?!(?:Message|Line|Warning) \|)(.+?) \| /gm), ([, cell]) => cell);
}

function problemsOf(env: Readonly<Record<string, string>>): readonly string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}
