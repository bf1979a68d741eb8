import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { type Config, variables } from '../../src/config/variables.ts';
import { upgrade } from './cluster.ts';
import { CHART, environment, helm, type Labels, type Manifest, only, parse, podSpecs, python, render, type Values } from './manifests.ts';

const FILES = ['minimal', 'in-memory', 'everything', 'examples/kubernetes/small.yaml', 'examples/kubernetes/large.yaml'];
/** The oldest that Chart.yaml allows, and a new one. */
const KUBERNETES = ['1.30', '1.37'];

const collectorOf = (manifests: readonly Manifest[]) =>
  manifests.find(({ kind }) => kind === 'StatefulSet' || kind === 'Deployment')!.spec.template!;
const configOf = (values: Values): Config => loadConfig(environment(collectorOf(render(values)).spec.containers[0]));

describe.each(FILES)('with %s', (file) => {
  test.each(KUBERNETES)('it passes helm lint, and the API of Kubernetes %s takes each manifest', (kubernetes) => {
    helm(['lint', '--strict'], { file }, kubernetes);
    expect(render({ file }, kubernetes).map(({ kind }) => kind)).toContain('Service');
  });

  test('pods are as restricted as Kubernetes lets them be', () => {
    for (const { automountServiceAccountToken, initContainers = [], containers, securityContext } of podSpecs(render({ file }))) {
      expect(automountServiceAccountToken).toBe(false);
      expect(securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } });
      for (const container of [...initContainers, ...containers]) {
        expect(container.securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
      }
    }
  });

  test('every variable is one of the collector', () => {
    const known = new Set(Object.entries(variables).flatMap(([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name])));
    const { containers } = collectorOf(render({ file })).spec;
    expect(Object.keys(environment(containers[0])).filter((name) => !known.has(name))).toEqual([]);
  });

  test('probes ask the right ports, and the pod is given longer to end than the collector takes', () => {
    const {
      containers: [collector],
      terminationGracePeriodSeconds,
    } = collectorOf(render({ file })).spec;
    const env = environment(collector);
    const ports = Object.fromEntries(collector.ports!.map(({ name, containerPort }) => [name, String(containerPort)]));
    expect(ports).toEqual({
      'otlp-http': env.PORT,
      ...(env.GRPC_PORT && { 'otlp-grpc': env.GRPC_PORT }),
      admin: env.HEALTH_PORT,
      healthcheck: env.HEALTHCHECK_PORT,
    });
    expect(collector.livenessProbe?.httpGet).toEqual({ path: '/', port: 'healthcheck' });
    expect(collector.readinessProbe?.httpGet).toEqual({ path: '/ready', port: 'admin' });
    const preStopSeconds = collector.lifecycle?.preStop.sleep.seconds ?? 0;
    expect(terminationGracePeriodSeconds).toBeGreaterThan(preStopSeconds + Number(env.SHUTDOWN_TIMEOUT_MS) / 1000);
  });

  test('what selects the collector finds its pods, and neither the schema job nor the test', () => {
    const manifests = render({ file });
    const others = manifests
      .filter(({ kind }) => kind === 'Pod' || kind === 'Job')
      .map(({ metadata, spec }) => spec.template?.metadata.labels ?? metadata.labels);
    const selectors = manifests
      .filter(({ kind }) => ['Service', 'PodDisruptionBudget', 'NetworkPolicy', 'StatefulSet', 'Deployment'].includes(kind))
      .map(({ spec }) => (spec.podSelector ?? spec.selector)!)
      .map((selector) => ('matchLabels' in selector ? (selector.matchLabels as Labels) : selector));
    expect(selectors.every((selector) => selects(selector, collectorOf(manifests).metadata.labels))).toBe(true);
    expect(selectors.some((selector) => others.some((labels) => selects(selector, labels)))).toBe(false);
  });
});

function selects(selector: Labels, labels: Labels): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value);
}

describe('the collector takes its settings', () => {
  test('with the disk buffer, on a volume with room for it and for dead letters', () => {
    expect(configOf({ file: 'minimal' })).toMatchObject({
      ENABLE_DISK_BUFFER: true,
      DISK_BUFFER_MAX_SIZE_MB: 1024,
      DEAD_LETTERS_MAX_MB: 256,
      DISABLE_AUTH: false,
      MAX_CONNECTION_AGE_MS: 300_000,
      SHUTDOWN_TIMEOUT_MS: 30_000,
    });
    const { spec } = only(render({ file: 'minimal' }), 'StatefulSet');
    expect(spec.template?.spec.containers[0].volumeMounts).toContainEqual({ name: 'data', mountPath: '/data' });
    expect(spec.volumeClaimTemplates?.[0].spec.resources.requests.storage).toBe('2Gi');
    const [resize] = spec.template!.spec.initContainers!;
    expect(resize.args).toEqual(['dist/cli/ring.js', 'resize', '/data/disk-buffer', '--size-mb', '1024', '--or-keep']);
    expect(resize.volumeMounts).toContainEqual({ name: 'data', mountPath: '/data' });
  });

  test('without it, as a Deployment without volumes to keep', () => {
    expect(configOf({ file: 'in-memory' })).toMatchObject({
      ENABLE_DISK_BUFFER: false,
      DISABLE_AUTH: true,
      CLICKHOUSE_URL: ['https://one:8443', 'https://two:8443'],
      CLICKHOUSE_CREATE_SCHEMA: true,
      ACK_TIMEOUT_MS: 20_000,
      BATCH_MAX_SPANS: 1_000_000,
    });
    expect(only(render({ file: 'in-memory' }), 'Deployment').spec.template?.spec.volumes).toEqual([
      { name: 'data', emptyDir: { sizeLimit: '272Mi' } },
    ]);
  });

  test('with everything from a secret, as files that may change while it runs', () => {
    const [collector] = collectorOf(render({ file: 'everything' })).spec.containers;
    expect(environment(collector)).toMatchObject({
      CLICKHOUSE_URL_FILE: '/run/secrets/clickhouse/url',
      CLICKHOUSE_USERNAME_FILE: '/run/secrets/clickhouse/username',
      CLICKHOUSE_PASSWORD_FILE: '/run/secrets/clickhouse/password',
    });
    expect(collector.volumeMounts).toContainEqual({ name: 'clickhouse', mountPath: '/run/secrets/clickhouse', readOnly: true });
  });
});

describe('ClickHouse', () => {
  test('may be behind a proxy, have tables of any name, and be named by its host as well', () => {
    const set = [
      'clickhouse.url=https://proxy:8443/clickhouse?key=1',
      'clickhouse.database=my-db',
      'clickhouse.table=otel.traces `1`',
      'extraEnv[0].name=CLICKHOUSE_HOST',
      'extraEnv[0].value=proxy',
    ];
    expect(configOf({ file: 'minimal', set })).toMatchObject({
      CLICKHOUSE_URL: ['https://proxy:8443/clickhouse?key=1'],
      CLICKHOUSE_HOST: 'proxy',
      CLICKHOUSE_DATABASE: 'my-db',
      CLICKHOUSE_TABLE: 'otel.traces `1`',
    });
  });
});

describe('the schema job', () => {
  test('runs the schema command against the same ClickHouse, before anything else', () => {
    const manifests = render({ file: 'everything' });
    const { metadata, spec } = only(manifests, 'Job');
    const [job] = spec.template!.spec.containers;
    expect(metadata).toMatchObject({ annotations: { 'helm.sh/hook': 'pre-install,pre-upgrade' } });
    expect(job.args).toEqual(['dist/cli/schema.js', 'apply', '--allow-differences', '--layout', 'hive', '--ttl-days', '30']);
    expect(environment(collectorOf(manifests).spec.containers[0])).toMatchObject(environment(job));
  });

  test('is off unless it is asked for', () => {
    expect(render({ file: 'minimal' }).map(({ kind }) => kind)).not.toContain('Job');
  });
});

describe('what is wrong is refused with a sentence', () => {
  test.each([
    [[], 'clickhouse.url is not set'],
    [['clickhouse.url=http://c:8123'], 'auth.endpoint is not set'],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'clickhouse.existingSecret=s', 'clickhouse.secretKeys.url=url'],
      'are both set',
    ],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'memBufferSizeMb=1024'], 'Needed: four times as much (4096Mi)'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'diskBuffer.sizeMb=4096'], 'diskBuffer.volumeSize is 2Gi. Needed: 4620Mi'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'diskBuffer.volumeSize=1Gi'], 'diskBuffer.volumeSize is 1Gi. Needed: 1395Mi'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'env.PORT=80'], 'env.PORT: this chart sets it'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'replica=3'], 'replica'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'diskBuffer.sync=sometimes'], 'diskBuffer'],
    [
      ['clickhouse.url=c:9000', 'auth.disabled=true'],
      'clickhouse.url is not valid. Allowed: ClickHouse over HTTP, for example http://clickhouse:8123',
    ],
    [['clickhouse.url=http://c:8123/#otel', 'auth.disabled=true'], 'clickhouse.url is not valid'],
    [
      ['clickhouse.url=http://c:8123', 'auth.endpoint=http://me:pw@hive/auth'],
      'auth.endpoint is not valid. Allowed: a URL without credentials in it, for example https://hive.example.com/otel-auth.',
    ],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'image.digest=latest'],
      'image.digest is "latest". Allowed: sha256: and 64 hexadecimal digits',
    ],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'podDisruptionBudget.maxUnavailable=some'],
      'podDisruptionBudget.maxUnavailable is "some". Allowed: a number of pods or a percentage, for example 1 or 25%.',
    ],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'admin.allowedHosts={http://status.example.com}'],
      'admin.allowedHosts has "http://status.example.com". Allowed: names of hosts',
    ],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'podAnnotations.note=1'], "at '/podAnnotations/note': got number, want string"],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'nodeSelector.disk=true'], "at '/nodeSelector/disk': got boolean, want string"],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'podLabels.team=7'], "at '/podLabels/team': got number, want string"],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'extraEnv[0].name=PORT', 'extraEnv[0].value=80'],
      'extraEnv has PORT: this chart sets it already',
    ],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'clickhouse.existingSecret=s', 'env.CLICKHOUSE_PASSWORD=x'],
      'env.CLICKHOUSE_PASSWORD: this chart sets it',
    ],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'env.LOG_LEVEL=info', 'extraEnv[0].name=LOG_LEVEL'],
      'extraEnv has LOG_LEVEL: this chart sets it already',
    ],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'env.LOG-LEVEL=info'], 'env has "LOG-LEVEL", which is no name of a variable'],
    [
      ['clickhouse.url=http://c:8123', 'auth.disabled=true', 'autoscaling.enabled=true', 'autoscaling.minReplicas=11'],
      'autoscaling.minReplicas is greater',
    ],
    [
      ['auth.disabled=true', 'clickhouse.existingSecret=s', 'clickhouse.secretKeys.url=url', 'networkPolicy.enabled=true'],
      'networkPolicy.clickhousePorts is empty',
    ],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'httpRoute.enabled=true'], 'httpRoute.parentRefs is empty'],
  ])('%j', (set, sentence) => {
    expect(() => render({ set })).toThrow(sentence);
  });

  test('a variable that the chart sets has no second value in env', () => {
    const { containers } = collectorOf(render({ file: 'minimal', set: ['grpc.enabled=true', 'memBufferSizeMb=512'] })).spec;
    for (const name of ['DISABLE_AUTH', ...Object.keys(environment(containers[0]))]) {
      expect(() => render({ file: 'minimal', set: [`env.${name}=1`] })).toThrow(`env.${name}: this chart sets it`);
    }
  });
});

/** What the chart renders with these variables, or says when it refuses them. */
function rendered(env: object): string {
  try {
    return helm(['template', 'release'], { file: 'minimal', setJson: [`env=${JSON.stringify(env)}`] }, '1.34');
  } catch (error) {
    return String(error);
  }
}

describe('variables in env', () => {
  // Of each kind of rule. The chart may be less strict than the collector where only a program can tell, and never stricter.
  test.each([
    ['BATCH_WORKERS', ['64', '1', ''], ['65', '0', 'many', '1.5', ' 4', '4 workers']],
    ['CLICKHOUSE_ASYNC_INSERT', ['true', 'False', 'YES', '0', ''], ['maybe', 'tru', '2']],
    ['ACK_MODE', ['durable', 'Received'], ['never', 'durable,received']],
    ['CORS_ALLOWED_ORIGINS', ['*', 'https://a.example, https://*.b.example,', 'null'], ['a.example', 'https://a.example, b']],
    ['CORS_ALLOWED_HEADERS', ['authorization, x-hive-target-ref'], ['a b', 'a:b']],
    ['OTEL_TRACES_SAMPLER_ARG', ['0', '1', '.25', '0.5'], ['2', '1.1', 'half', '-1']],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', ['http://otel:4318', 'https://otel/path?a=b'], ['otel:4318', 'ftp://otel', 'http://me:pw@otel']],
    ['DEAD_LETTERS_DIR', ['/data/letters', 'anything at all'], []],
  ])('%s is judged by the rules of the collector', (name, allowed, refused) => {
    const isTaken = (text: string) => {
      const output = rendered({ [name]: text });
      const isRefused = output.startsWith('Error: ');
      if (isRefused) expect(output).toContain(`env.${name} is `);
      return !isRefused;
    };
    const isLoaded = (text: string) => {
      try {
        return (
          loadConfig({
            CLICKHOUSE_URL: 'http://c:8123',
            DISABLE_AUTH: 'true',
            ENABLE_SELF_TRACING: 'true',
            OTEL_EXPORTER_OTLP_ENDPOINT: 'http://otel',
            [name]: text,
          }) !== undefined
        );
      } catch {
        return false;
      }
    };
    for (const [texts, verdict] of [
      [allowed, true],
      [refused, false],
    ] as const) {
      expect(texts.map((text) => [text, isTaken(text), isLoaded(text)])).toEqual(texts.map((text) => [text, verdict, verdict]));
    }
  });

  test('a number out of range, and one of another type, are refused by the schema', () => {
    expect(() => helm(['lint'], { file: 'minimal', set: ['env.BATCH_WORKERS=65'] }, '1.34')).toThrow(
      "at '/env/BATCH_WORKERS': maximum: got 65, want 64",
    );
    expect(() => helm(['lint'], { file: 'minimal', set: ['env.BATCH_WORKERS=true'] }, '1.34')).toThrow(
      "at '/env/BATCH_WORKERS': got boolean, want number or string",
    );
  });

  test('one that looks like a variable of the collector is named with the nearest, and others are passed on', () => {
    const misspelled = {
      ENABLE_DISKBUFFER: 'ENABLE_DISK_BUFFER',
      CLICKHOUSE_USER: 'CLICKHOUSE_USERNAME',
      BATCH_MAX_SPAN: 'BATCH_MAX_SPANS',
      LOGLEVEL: 'LOG_LEVEL',
      MAX_CONNS: 'MAX_CONNECTIONS',
      batch_workers: 'BATCH_WORKERS',
    };
    const refusal = rendered(misspelled);
    for (const [name, nearest] of Object.entries(misspelled))
      expect(refusal).toContain(`env.${name}: the collector has no such variable. Did you mean ${nearest}?`);
    // Every variable without its last letter.
    const others = Object.keys(variables).filter((name) => !name.startsWith('OTEL_') && !Object.hasOwn(variables, name.slice(0, -1)));
    const shortened = rendered(Object.fromEntries(others.map((name) => [name.slice(0, -1), ''])));
    expect(
      others.filter((name) => !shortened.includes(`env.${name.slice(0, -1)}: the collector has no such variable. Did you mean ${name}?`)),
    ).toEqual([]);
    const foreign = {
      NODE_OPTIONS: '',
      TZ: 'UTC',
      HTTP_PROXY: '',
      SSL_CERT_FILE: '',
      MALLOC_CONF: '',
      HOSTNAME: '',
      UV_THREADPOOL_SIZE: '4',
      OTEL_BSP_MAX_QUEUE_SIZE: '1',
      OTEL_EXPORTER_OTLP_HEADERS_FILE: '/run/h',
    };
    expect(rendered(foreign)).toContain('name: UV_THREADPOOL_SIZE');
  });
});

describe('what people are told', () => {
  test.each([
    ['minimal', [], false],
    ['minimal', ['autoscaling.enabled=true'], true],
    ['in-memory', ['autoscaling.enabled=true'], false],
  ])('after the install with %s.yaml %j: what a scale-down leaves on a volume, if it can', (file, set, isTold) => {
    // Helm shows notes with a cluster alone: a copy of the chart has them as a manifest.
    const chart = mkdtempSync(join(tmpdir(), 'chart-'));
    cpSync(CHART, chart, { recursive: true });
    writeFileSync(
      join(chart, 'templates/notes.yaml'),
      'notes: |\n  {{- include (print $.Template.BasePath "/NOTES.txt") . | nindent 2 }}\n',
    );
    const notes = helm(['template', 'release', '--show-only', 'templates/notes.yaml'], { file, set }, '1.34', chart);
    rmSync(chart, { recursive: true });
    expect(notes.includes('HiveCollectorSpansParked')).toBe(isTold);
    expect(notes).toContain('helm test release --namespace default --logs');
  });

  test('`helm test --logs` finds the pod of the test', () => {
    expect(only(render({ file: 'minimal' }), 'Pod').metadata.annotations?.['helm.sh/hook-delete-policy']).toBe('before-hook-creation');
  });
});

test.each(['clickhouse', 'load'])('what the check in a real cluster applies is valid: %s.yaml', (file) => {
  expect(parse(readFileSync(new URL(`kind/${file}.yaml`, import.meta.url), 'utf8'), '1.34').length).toBeGreaterThan(0);
});

function claims(values: Values) {
  return only(render(values), 'StatefulSet').spec.volumeClaimTemplates;
}

describe('an upgrade', () => {
  test('of settings that are tuned changes no claims', () => {
    const before = claims({ file: 'minimal' });
    for (const set of [
      'diskBuffer.sizeMb=1500',
      'diskBuffer.sizeMb=100',
      'diskBuffer.deadLettersMaxMb=512',
      'diskBuffer.sync=always',
      'diskBuffer.volumeSize=',
      'service.port=80',
      'resources.limits.memory=4Gi',
    ]) {
      expect(claims({ file: 'minimal', set: [set] })).toEqual(before);
    }
  });

  test.each([
    ['diskBuffer.volumeSize=10Gi', 'diskBuffer.volumeSize (2Gi before)'],
    ['diskBuffer.storageClassName=fast', 'diskBuffer.storageClassName ("" before)'],
    ['diskBuffer.accessModes={ReadWriteOncePod}', 'diskBuffer.accessModes'],
    ['diskBuffer.annotations.backup=never', 'diskBuffer.annotations'],
  ])('with %s, which changes claims, is refused with the recipe', async (set, sentence) => {
    const live = render({ file: 'minimal' });
    expect(claims({ file: 'minimal', set: [set] })).not.toEqual(claims({ file: 'minimal' }));
    await expect(upgrade(live, { file: 'minimal', set: [set] })).rejects.toThrow(sentence);
    await expect(upgrade(live, { file: 'minimal', set: [set] })).rejects.toThrow(
      'kubectl delete statefulset release-hive-otel-collector --namespace default --cascade=orphan',
    );
    // What the recipe leads to.
    await expect(
      upgrade(
        live.filter(({ kind }) => kind !== 'StatefulSet'),
        { file: 'minimal', set: [set] },
      ),
    ).resolves.toBeDefined();
  });

  test('goes through where claims are the same in other words, as Kubernetes writes them', async () => {
    const live = render({ file: 'minimal', set: ['diskBuffer.volumeSize=4Gi'] });
    await expect(
      upgrade(live, { file: 'minimal', set: ['diskBuffer.volumeSize=4096Mi', 'diskBuffer.sizeMb=2048', 'service.port=80'] }),
    ).resolves.toBeDefined();
    await expect(upgrade(render({ file: 'in-memory' }), { file: 'in-memory', set: ['preStopSeconds=1'] })).resolves.toBeDefined();
  });

  test.each(['minimal', 'in-memory'])('to another name is refused, with %s.yaml', async (file) => {
    const live = render({ file });
    await expect(upgrade(live, { file, set: ['fullnameOverride=other'] })).rejects.toThrow(
      "of this release is called release-hive-otel-collector and can't be renamed to other",
    );
    await expect(upgrade(live, { file, set: ['nameOverride=other'] })).rejects.toThrow("can't be renamed to release-other");
    await expect(upgrade(live, { file, set: ['nameOverride=other', 'fullnameOverride=release-hive-otel-collector'] })).rejects.toThrow(
      `nameOverride was "hive-otel-collector" and can't be changed`,
    );
  });

  test.each(['minimal', 'in-memory'])('that turns autoscaling on keeps the number of pods, with %s.yaml', async (file) => {
    const set = ['autoscaling.enabled=true', 'autoscaling.minReplicas=3'];
    const replicas = async (live: number) => {
      const objects = render({ file, set: [`replicas=${live}`] });
      return (await upgrade(objects, { file, set })).find(({ kind }) => kind === 'StatefulSet' || kind === 'Deployment')!.spec.replicas;
    };
    expect([await replicas(5), await replicas(1)]).toEqual([5, 3]);
    // Deleted with --cascade=orphan, as the recipe for other claims says: its pods go on.
    const autoscaler = { ...only(render({ file, set }), 'HorizontalPodAutoscaler'), status: { currentReplicas: 7 } };
    expect(
      (await upgrade([autoscaler], { file, set })).find(({ kind }) => kind === 'StatefulSet' || kind === 'Deployment')!.spec.replicas,
    ).toBe(7);
    const fresh = render({ file, set }).find(({ kind }) => kind === 'StatefulSet' || kind === 'Deployment')!;
    expect(fresh.spec.replicas).toBeUndefined();
  });
});

describe('network policy', () => {
  test('lets out to DNS, to ClickHouse and to the auth endpoint', () => {
    const set = ['networkPolicy.enabled=true', 'clickhouse.url=https://one:8443\\,http://two'];
    const { spec } = only(render({ file: 'minimal', set }), 'NetworkPolicy');
    expect(spec.egress).toEqual([
      {
        ports: [
          { port: 53, protocol: 'UDP' },
          { port: 53, protocol: 'TCP' },
        ],
      },
      { ports: [{ port: 8443 }, { port: 80 }] },
      { ports: [{ port: 443 }] },
    ]);
  });
});

describe('monitoring', () => {
  test.each(['PodMonitor', 'ServiceMonitor'])('a %s reads /metrics of what it selects', (kind) => {
    const manifests = render({ file: 'minimal', set: ['monitoring.monitor.enabled=true', `monitoring.monitor.kind=${kind}`] });
    const { spec } = only(manifests, kind);
    const { matchLabels } = spec.selector as { matchLabels: Labels };
    const selected =
      kind === 'PodMonitor'
        ? [collectorOf(manifests).metadata.labels]
        : manifests.filter((manifest) => manifest.kind === 'Service').map(({ metadata }) => metadata.labels);
    expect(selected.filter((labels) => selects(matchLabels, labels))).toHaveLength(1);
    expect(spec.podMetricsEndpoints ?? spec.endpoints).toEqual([{ port: 'admin', path: '/metrics', interval: '15s' }]);
  });

  test('alerts and panels are PromQL, and each alert leads to a heading of its name', () => {
    const manifests = render({ file: 'everything' });
    const rules = only(manifests, 'PrometheusRule').spec.groups!.flatMap((group) => group.rules);
    expect(
      rules.every(({ alert, annotations }) => annotations.runbook_url === `https://runbooks.example.com/collector#${alert.toLowerCase()}`),
    ).toBe(true);
    const dashboard = only(manifests, 'ConfigMap').data!['hive-otel-collector.json'];
    const runbook = 'https://github.com/graphql-hive/otel-collector/blob/main/docs/operations.md';
    expect(dashboard).toBe(
      readFileSync(`${CHART}/files/dashboard.json`, 'utf8').replaceAll(runbook, 'https://runbooks.example.com/collector'),
    );
    const { panels, annotations } = JSON.parse(dashboard) as {
      panels: { targets?: { expr: string }[] }[];
      annotations: { list: { expr: string }[] };
    };
    const targets = [...annotations.list, ...panels.flatMap((panel) => panel.targets ?? [])];
    const expressions = targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m'));
    expect(annotations.list).toHaveLength(1);
    expect(expressions.length).toBeGreaterThan(40);
    python('promql.py', [], JSON.stringify([...rules.map(({ expr }) => expr), ...expressions]));
  });
});
