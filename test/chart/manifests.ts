import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';

export const CHART = fileURLToPath(new URL('../../charts/hive-otel-collector', import.meta.url));

export type Labels = Readonly<Record<string, string>>;

export interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}

export interface Container {
  readonly args?: readonly string[];
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly lifecycle?: { readonly preStop: { readonly sleep: { readonly seconds: number } } };
  readonly resources: { readonly limits: Labels };
  readonly securityContext: object;
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

export interface PodSpec {
  readonly initContainers?: readonly Pick<Container, 'args' | 'securityContext' | 'volumeMounts'>[];
  readonly containers: readonly [Container];
  readonly automountServiceAccountToken: boolean;
  readonly securityContext: object;
  readonly terminationGracePeriodSeconds: number;
  readonly volumes?: readonly { readonly name: string }[];
}

/** What the tests look at of any kind of manifest. */
export interface Spec {
  readonly template?: { readonly metadata: { readonly labels: Labels }; readonly spec: PodSpec };
  readonly selector?: Labels | { readonly matchLabels: Labels };
  readonly podSelector?: { readonly matchLabels: Labels };
  readonly ports?: readonly { readonly port: number; readonly targetPort: string }[];
  readonly volumeClaimTemplates?: readonly { readonly spec: { readonly resources: { readonly requests: Labels } } }[];
  readonly replicas?: number;
  readonly groups?: readonly {
    readonly rules: readonly { readonly alert: string; readonly expr: string; readonly annotations: Labels }[];
  }[];
  readonly [field: string]: unknown;
}

export interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels: Labels; readonly annotations?: Labels };
  readonly spec: Spec;
  readonly data?: Labels;
}

export interface Values {
  /** A file in values/, or one of the repository by its path. */
  readonly file?: string;
  readonly set?: readonly string[];
  /** KEY=JSON */
  readonly setJson?: readonly string[];
}

/** `helm COMMAND` on the chart. @throws with what Helm says when it refuses */
export function helm(command: readonly string[], values: Values, kubernetes: string, chart = CHART): string {
  const words = [...command, chart, '--kube-version', kubernetes, ...valuesArguments(values)];
  const { status, stdout, stderr } = spawnSync(inject('helm'), words, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return stdout;
}

/** The manifests that Helm renders. @throws with what Helm refuses, or the first manifest that the Kubernetes API would refuse */
export function render(values: Values, kubernetes = '1.34'): Manifest[] {
  return parse(helm(['template', 'release'], values, kubernetes), kubernetes);
}

/** @throws Error with the first manifest that the Kubernetes API would refuse */
export function parse(manifests: string, kubernetes: string): Manifest[] {
  return JSON.parse(python('validate.py', [kubernetes], manifests)) as Manifest[];
}

export function valuesArguments({ file, set = [], setJson = [] }: Values): string[] {
  const path = file?.includes('/') ? `../../${file}` : `values/${file}.yaml`;
  const values = file === undefined ? [] : ['--values', fileURLToPath(new URL(path, import.meta.url))];
  return [...values, ...set.flatMap((one) => ['--set', one]), ...setJson.flatMap((one) => ['--set-json', one])];
}

/** Runs a script of this folder. @throws with what it says when it fails */
export function python(script: string, args: readonly string[], input: string): string {
  const { status, stdout, stderr } = spawnSync(inject('python'), [fileURLToPath(new URL(script, import.meta.url)), ...args], {
    encoding: 'utf8',
    input,
  });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

/** The one manifest of a kind. @throws when there is none */
export function only(manifests: readonly Manifest[], kind: string): Manifest {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  if (found.length !== 1) throw new Error(`${found.length} manifests are of kind ${kind}`);
  return found[0];
}

/** The specs of everything that runs: the collector, the schema job, the test. */
export function podSpecs(manifests: readonly Manifest[]): PodSpec[] {
  return manifests.flatMap(({ kind, spec }) => (kind === 'Pod' ? [spec as unknown as PodSpec] : (spec?.template?.spec ?? [])));
}

export function environment({ env }: Container): Record<string, string> {
  return Object.fromEntries(env.map(({ name, value = '' }) => [name, value]));
}
