import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { type Config, variables } from '../../src/config/variables.ts';
import { CHART, environment, helm, type Labels, type Manifest, only, podSpecs, python, render, type Values } from './manifests.ts';

const FILES = ['minimal', 'in-memory', 'everything'];
/** The oldest that Chart.yaml allows, and a new one. */
const KUBERNETES = ['1.30', '1.37'];

const collectorOf = (manifests: readonly Manifest[]) => manifests.find(({ kind }) => kind === 'StatefulSet' || kind === 'Deployment')!.spec.template!;
const configOf = (values: Values): Config => loadConfig(environment(collectorOf(render(values)).spec.containers[0]));

describe.each(FILES)('with %s.yaml', (file) => {
  test.each(KUBERNETES)('it passes helm lint, and the API of Kubernetes %s takes each manifest', (kubernetes) => {
    helm(['lint', '--strict'], { file }, kubernetes);
    expect(render({ file }, kubernetes).map(({ kind }) => kind)).toContain('Service');
  });

  test('pods are as restricted as Kubernetes lets them be', () => {
    for (const { automountServiceAccountToken, containers, securityContext } of podSpecs(render({ file }))) {
      expect(automountServiceAccountToken).toBe(false);
      expect(securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } });
      expect(containers[0].securityContext).toEqual({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
    }
  });

  test('every variable is one of the collector', () => {
    const known = new Set(Object.entries(variables).flatMap(([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name])));
    const { containers } = collectorOf(render({ file })).spec;
    expect(Object.keys(environment(containers[0])).filter((name) => !known.has(name))).toEqual([]);
  });

  test('probes ask the right ports, and the pod is given longer to end than the collector takes', () => {
    const { containers: [collector], terminationGracePeriodSeconds } = collectorOf(render({ file })).spec;
    const env = environment(collector);
    const ports = Object.fromEntries(collector.ports!.map(({ name, containerPort }) => [name, String(containerPort)]));
    expect(ports).toEqual({ 'otlp-http': env.PORT, ...(env.GRPC_PORT && { 'otlp-grpc': env.GRPC_PORT }), admin: env.HEALTH_PORT, healthcheck: env.HEALTHCHECK_PORT });
    expect(collector.livenessProbe?.httpGet).toEqual({ path: '/', port: 'healthcheck' });
    expect(collector.readinessProbe?.httpGet).toEqual({ path: '/ready', port: 'admin' });
    const preStopSeconds = collector.lifecycle?.preStop.sleep.seconds ?? 0;
    expect(terminationGracePeriodSeconds).toBeGreaterThan(preStopSeconds + Number(env.SHUTDOWN_TIMEOUT_MS) / 1000);
  });

  test('what selects the collector finds its pods, and neither the schema job nor the test', () => {
    const manifests = render({ file });
    const others = manifests.filter(({ kind }) => kind === 'Pod' || kind === 'Job').map(({ metadata, spec }) => spec.template?.metadata.labels ?? metadata.labels);
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
    expect(configOf({ file: 'minimal' })).toMatchObject({ ENABLE_DISK_BUFFER: true, DISK_BUFFER_MAX_SIZE_MB: 1024, DEAD_LETTERS_MAX_MB: 256, DISABLE_AUTH: false, MAX_CONNECTION_AGE_MS: 300_000, SHUTDOWN_TIMEOUT_MS: 30_000 });
    const { spec } = only(render({ file: 'minimal' }), 'StatefulSet');
    expect(spec.template?.spec.containers[0].volumeMounts).toContainEqual({ name: 'data', mountPath: '/data' });
    const size = spec.volumeClaimTemplates?.[0].spec.resources.requests.storage;
    expect(Number(/^(\d+)Mi$/.exec(size!)![1])).toBeGreaterThan(1024 + 256);
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
    expect(only(render({ file: 'in-memory' }), 'Deployment').spec.template?.spec.volumes).toEqual([{ name: 'data', emptyDir: { sizeLimit: '272Mi' } }]);
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
    const set = ['clickhouse.url=https://proxy:8443/clickhouse?key=1', 'clickhouse.database=my-db', 'clickhouse.table=otel.traces `1`', 'extraEnv[0].name=CLICKHOUSE_HOST', 'extraEnv[0].value=proxy'];
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
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'clickhouse.existingSecret=s', 'clickhouse.secretKeys.url=url'], 'are both set'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'memBufferSizeMb=1024'], 'Needed: four times as much (4096Mi)'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'diskBuffer.volumeSize=1Gi'], 'diskBuffer.volumeSize is 1Gi. Needed: 1395Mi'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'env.PORT=80'], 'env.PORT: this chart sets it'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'replica=3'], 'replica'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'diskBuffer.sync=sometimes'], 'diskBuffer'],
    [['clickhouse.url=c:9000', 'auth.disabled=true'], 'clickhouse'],
    [['clickhouse.url=http://c:8123/#otel', 'auth.disabled=true'], '/clickhouse/url'],
    [['clickhouse.url=http://c:8123', 'auth.endpoint=http://me:pw@hive/auth'], '/auth/endpoint'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'image.digest=latest'], '/image/digest'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'podDisruptionBudget.maxUnavailable=some'], '/podDisruptionBudget/maxUnavailable'],
    [['clickhouse.url=http://c:8123', 'auth.disabled=true', 'autoscaling.enabled=true', 'autoscaling.minReplicas=11'], 'autoscaling.minReplicas is greater'],
    [['auth.disabled=true', 'clickhouse.existingSecret=s', 'clickhouse.secretKeys.url=url', 'networkPolicy.enabled=true'], 'networkPolicy.clickhousePorts is empty'],
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

describe('network policy', () => {
  test('lets out to DNS, to ClickHouse and to the auth endpoint', () => {
    const set = ['networkPolicy.enabled=true', 'clickhouse.url=https://one:8443\\,http://two'];
    const { spec } = only(render({ file: 'minimal', set }), 'NetworkPolicy');
    expect(spec.egress).toEqual([{ ports: [{ port: 53, protocol: 'UDP' }, { port: 53, protocol: 'TCP' }] }, { ports: [{ port: 8443 }, { port: 80 }] }, { ports: [{ port: 443 }] }]);
  });
});

describe('monitoring', () => {
  test.each(['PodMonitor', 'ServiceMonitor'])('a %s reads /metrics of what it selects', (kind) => {
    const manifests = render({ file: 'minimal', set: ['monitoring.monitor.enabled=true', `monitoring.monitor.kind=${kind}`] });
    const { spec } = only(manifests, kind);
    const { matchLabels } = spec.selector as { matchLabels: Labels };
    const selected = kind === 'PodMonitor' ? [collectorOf(manifests).metadata.labels] : manifests.filter((manifest) => manifest.kind === 'Service').map(({ metadata }) => metadata.labels);
    expect(selected.filter((labels) => selects(matchLabels, labels))).toHaveLength(1);
    expect(spec.podMetricsEndpoints ?? spec.endpoints).toEqual([{ port: 'admin', path: '/metrics', interval: '15s' }]);
  });

  test('alerts and panels are PromQL, and each alert leads to a heading of its name', () => {
    const manifests = render({ file: 'everything' });
    const rules = only(manifests, 'PrometheusRule').spec.groups!.flatMap((group) => group.rules);
    expect(rules.every(({ alert, annotations }) => annotations.runbook_url === `https://runbooks.example.com/collector#${alert.toLowerCase()}`)).toBe(true);
    const dashboard = only(manifests, 'ConfigMap').data!['hive-otel-collector.json'];
    expect(dashboard).toBe(readFileSync(`${CHART}/files/dashboard.json`, 'utf8'));
    const { panels } = JSON.parse(dashboard) as { panels: { targets?: { expr: string }[] }[] };
    const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m')));
    expect(expressions.length).toBeGreaterThan(40);
    python('promql.py', [], JSON.stringify([...rules.map(({ expr }) => expr), ...expressions]));
  });
});
