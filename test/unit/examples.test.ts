import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { variables } from '../../src/config/variables.ts';
import { readCompose, readComposeFile, type ComposeService } from '../support/servers/compose.ts';

/* What people copy: compose files, and commands with a token. There is no Docker here; test/e2e/compose.test.ts runs the programs. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = join(ROOT, 'examples/docker-compose');
const text = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const example = readComposeFile(join(FOLDER, 'docker-compose.yml'));
const { collector, clickhouse, auth } = example.services;

function codeOf(page: string): readonly { readonly language: string; readonly code: string }[] {
  return Array.from(text(page).matchAll(/^ *```(\w*)\n([^]*?)^ *```/gm), ([, language, code]) => ({ language, code }));
}

/** The service of the guide's compose file. */
const ofHive = codeOf('docs/migrate-from-go-collector.md')
  .filter(({ language, code }) => language === 'yaml' && code.includes('services:'))
  .map(({ code }) => readCompose(code.replaceAll(/\$\{(\w+)\}/g, '$1')).services['otel-collector']);

describe.each<[string, ComposeService]>([
  ['the example', collector],
  ...ofHive.map((service): [string, ComposeService] => ["Hive's compose file in the guide", service]),
])('the collector of %s', (_, { image, environment, ports = [], volumes = [], stop_grace_period }) => {
  test('has variables that there are, with values that are allowed', () => {
    expect(Object.keys(environment).filter((name) => !Object.hasOwn(variables, name))).toEqual([]);
    expect(loadConfig(environment)).toMatchObject({
      CLICKHOUSE_URL: ['http://clickhouse:8123'],
      GRPC_PORT: 4317,
      PORT: 4318,
      CORS_ALLOWED_ORIGINS: ['*'],
      ENABLE_DISK_BUFFER: true,
      ROW_DIALECT: 'hive',
    });
  });

  test('has the image of the README, ports that it listens on, and keeps its disk buffer on a volume', () => {
    expect(text('README.md')).toContain(image);
    const config = loadConfig(environment);
    const listening = new Set([config.PORT, config.GRPC_PORT, config.HEALTH_PORT]);
    expect(ports.map((port) => Number(port.split(':').at(-1))).filter((port) => !listening.has(port))).toEqual([]);
    expect(ports.map((port) => port.split(':').at(-1))).toEqual(expect.arrayContaining(['4317', '4318']));
    expect(volumes).toEqual([expect.stringMatching(/^[a-z-]+:\/data$/)]);
    expect(text('Dockerfile')).toMatch(/^VOLUME \/data$/m);
    expect(Number.parseInt(stop_grace_period!, 10) * 1000).toBeGreaterThan(config.SHUTDOWN_TIMEOUT_MS);
  });
});

test("the guide has one compose file, of the service in Hive's", () => {
  expect(ofHive).toHaveLength(1);
  expect(ofHive[0]).toBeDefined();
});

describe('the example', () => {
  test('has services that know each other by name, port and password', () => {
    const endpoint = new URL(collector.environment.HIVE_OTEL_AUTH_ENDPOINT);
    expect(endpoint.hostname).toBe('auth');
    expect(endpoint.port).toBe(auth.environment.PORT);
    expect(collector.environment.CLICKHOUSE_HOST).toBe('clickhouse');
    expect(clickhouse.environment).toMatchObject({
      CLICKHOUSE_USER: collector.environment.CLICKHOUSE_USERNAME,
      CLICKHOUSE_PASSWORD: collector.environment.CLICKHOUSE_PASSWORD,
    });
    expect(Object.keys(collector.depends_on!).toSorted()).toEqual(['auth', 'clickhouse']);
    expect(text('examples/docker-compose/README.md')).toContain(`Bearer ${auth.environment.EXAMPLE_TOKEN}`);
  });

  test('mounts volumes and files that there are', () => {
    for (const { volumes = [] } of Object.values(example.services)) {
      for (const [source] of volumes.map((volume) => volume.split(':'))) {
        expect(source.startsWith('./') ? existsSync(join(FOLDER, source)) : Object.hasOwn(example.volumes!, source), source).toBe(true);
      }
    }
    expect(auth.volumes).toEqual([`./auth-stand-in.mjs:${auth.command![0]}:ro`]);
  });

  test('checks health with programs that are in the images', () => {
    // The collector's image has a check of its own, which looks at a port that the stand-in does not have.
    expect(collector.healthcheck).toBeUndefined();
    expect(text('Dockerfile')).toMatch(/^HEALTHCHECK /m);
    const [kind, program] = auth.healthcheck!.test;
    expect([kind, auth.image]).toEqual(['CMD', collector.image]);
    expect(text('Dockerfile')).toContain(`COPY --from=runtime ${program} ${program}`);
    // Of Alpine's busybox, as in Hive's own compose file.
    expect(clickhouse.image).toMatch(/:\d+\.\d+-alpine$/);
    expect(clickhouse.healthcheck!.test.slice(0, 2)).toEqual(['CMD', 'wget']);
  });
});

test('no command has a token among its arguments, which Gateway sends with every span', () => {
  const pages = globSync(['*.md', 'docs/*.md', 'examples/**/*.md'], { cwd: ROOT });
  expect(pages).toContain('README.md');
  const commands = pages.flatMap((page) => codeOf(page).map(({ code }) => code));
  expect(commands.some((code) => code.includes('HIVE_TRACE_ACCESS_TOKEN'))).toBe(true);
  expect(commands.filter((code) => /--\S*token\b/.test(code))).toEqual([]);
});
