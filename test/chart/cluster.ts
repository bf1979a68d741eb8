import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { inject } from 'vitest';
import { CHART, type Manifest, parse, type Values, valuesArguments } from './manifests.ts';

/* `helm upgrade` looks at the cluster before it applies anything. Helm is real here; the cluster is objects behind Kubernetes' paths. */

const KINDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'apps/v1': { statefulsets: 'StatefulSet', deployments: 'Deployment' },
  'autoscaling/v2': { horizontalpodautoscalers: 'HorizontalPodAutoscaler' },
};

/** What an upgrade of the release would apply to a cluster with these objects. @throws Error with what Helm says when it refuses */
export async function upgrade(objects: readonly Manifest[], values: Values): Promise<Manifest[]> {
  const server = createServer(({ url = '' }, response) => {
    const answer = answerTo(new URL(url, 'http://cluster').pathname, objects);
    response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404 }));
  });
  await new Promise<void>((listening) => void server.listen(0, '127.0.0.1', listening));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    const words = ['template', 'release', CHART, '--is-upgrade', '--dry-run=server', '--kube-apiserver', address, '--kube-version', '1.34'];
    const options = { env: { ...process.env, KUBECONFIG: '/dev/null' }, maxBuffer: 1024 ** 3 };
    const { stdout } = await promisify(execFile)(inject('helm'), [...words, ...valuesArguments(values)], options);
    return parse(stdout, '1.34');
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** Undefined: there is no such thing. */
function answerTo(path: string, objects: readonly Manifest[]): object | undefined {
  const [, version, , plural, , name] = /^\/apis\/(\w+\/\w+)(\/namespaces\/default\/(\w+)(\/(.+))?)?$/.exec(path) ?? [];
  const kinds = KINDS[version] ?? {};
  if (plural === undefined) {
    const resources = Object.entries(kinds).map(([of, kind]) => ({
      name: of,
      kind,
      singularName: '',
      namespaced: true,
      verbs: ['get', 'list'],
    }));
    return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: version, resources };
  }
  const found = objects.filter(({ kind }) => kind === kinds[plural]);
  if (name !== undefined) return found.find(({ metadata }) => metadata.name === name);
  return { kind: `${kinds[plural]}List`, apiVersion: version, metadata: {}, items: found };
}
