import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { localModeOn, thisMachine } from '../../src/embedded/local-machine.ts';
import { readComposeFile } from '../support/servers/compose.ts';

/* What local mode does on machines that are not this one. */

const LIBRARY = '/project/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so';
const PROGRAM = '/opt/homebrew/bin/clickhouse';

test.each([
  ['linux', 'x64', LIBRARY, undefined, { kind: 'library', path: LIBRARY }, true],
  ['linux', 'x64', LIBRARY, PROGRAM, { kind: 'library', path: LIBRARY }, true],
  ['linux', 'arm64', undefined, PROGRAM, { kind: 'program', path: PROGRAM }, true],
  ['darwin', 'arm64', undefined, PROGRAM, { kind: 'program', path: PROGRAM }, false],
] as const)('on %s %s with %s and %s it has a ClickHouse to start', (platform, arch, library, program, clickhouse, diskBuffer) => {
  expect(localModeOn({ platform, arch, library, program })).toEqual({ clickhouse, diskBuffer });
});

describe('without a ClickHouse to start', () => {
  test.each([
    ['linux', 'x64', 'run npm ci without --omit=optional', true],
    ['linux', 'arm64', 'none comes with npm for linux arm64', true],
    ['darwin', 'arm64', 'none comes with npm for darwin arm64', false],
    ['win32', 'x64', 'none comes with npm for win32 x64', false],
  ] as const)('on %s %s it says in one sentence how to get one', (platform, arch, reason, diskBuffer) => {
    const plan = localModeOn({ platform, arch, library: undefined, program: undefined });
    const advice = expect.stringMatching(
      new RegExp(
        `^There is no ClickHouse to start: ${reason}.*on the PATH.*docker run .*CLICKHOUSE_URL=http://default:local@127.0.0.1:8123\\.$`,
      ),
    );
    expect(plan).toEqual({ clickhouse: { kind: 'none', advice }, diskBuffer });
  });

  test('the image it names is that of the example for Docker Compose', () => {
    const plan = localModeOn({ platform: 'darwin', arch: 'arm64', library: undefined, program: undefined });
    const { image } = readComposeFile(new URL('../../examples/docker-compose/docker-compose.yml', import.meta.url).pathname).services
      .clickhouse;
    expect(plan.clickhouse).toMatchObject({ advice: expect.stringContaining(` ${image}\``) });
  });
});

describe('the clickhouse on the PATH', () => {
  const folder = mkdtempSync(join(tmpdir(), 'path-'));
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true, force: true });
  });

  test('is the first that can be run', () => {
    const [none, directory, noProgram, good] = ['none', 'directory', 'no-program', 'good'].map((name) => join(folder, name));
    mkdirSync(join(directory, 'clickhouse'), { recursive: true });
    for (const path of [noProgram, good]) {
      mkdirSync(path);
      writeFileSync(join(path, 'clickhouse'), '');
    }
    chmodSync(join(good, 'clickhouse'), 0o755);
    vi.stubEnv('PATH', [none, directory, '', noProgram, good].join(delimiter));
    expect(thisMachine().program).toBe(join(good, 'clickhouse'));
    vi.stubEnv('PATH', noProgram);
    expect(thisMachine().program).toBeUndefined();
  });
});
