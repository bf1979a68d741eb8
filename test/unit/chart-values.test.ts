import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { Variable } from '../../src/config/variable.ts';
import { variables } from '../../src/config/variables.ts';

/*
 * What the Helm chart knows of the variables is made from src/config/variables.ts (`npx vitest run test/unit/chart-values.test.ts -u`):
 * the value `env` in values.schema.json, for editors and types, and files/variables.json, by which the templates check texts.
 */

const CHART = '../../charts/hive-otel-collector';
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SCALARS = ['string', 'number', 'boolean'];
const all = Object.entries<Variable<unknown>>(variables);

test('files/variables.json has the rules of the variables', async () => {
  const rules = all.map(([name, { rule, allowed, secret }]) => [name, { ...rule, allowed, ...(secret && { secret }) }]);
  await expect(json(Object.fromEntries(rules))).toMatchFileSnapshot(`${CHART}/files/variables.json`);
});

test('values.schema.json describes the variables, and says which type each has', async () => {
  const schema = JSON.parse(read('values.schema.json')) as { properties: Record<string, object> };
  // The templates say of these that the chart sets them.
  const [, names] = /\$own := list ([^}]*?) -}}/.exec(read('templates/_env.tpl'))!;
  const own = new Set(names.split(/\s+/).map((name) => JSON.parse(name) as string));
  expect(own.size).toBeGreaterThan(15);
  const settable = all.filter(([name]) => !own.has(name));
  const described = settable.map(([name, { help, allowed, rule }]) => {
    const range =
      rule?.maximum === undefined ? { type: SCALARS } : { type: ['number', 'string'], minimum: rule.minimum, maximum: rule.maximum };
    return [name, { description: `${help} Allowed: ${allowed}.`, ...range }] as const;
  });
  const files = settable
    .filter(([, { secret }]) => secret)
    .map(([name]) => [`${name}_FILE`, { description: `A file with the value of ${name}.`, type: 'string' }] as const);
  schema.properties.env = {
    type: 'object',
    properties: Object.fromEntries([...described, ...files]),
    additionalProperties: { type: SCALARS },
  };
  await expect(json(schema)).toMatchFileSnapshot(`${CHART}/values.schema.json`);
});

function read(path: string): string {
  return readFileSync(new URL(`${CHART}/${path}`, import.meta.url), 'utf8');
}

function json(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
}

test('README and docs name only values that the chart has', () => {
  const schema = JSON.parse(read('values.schema.json')) as Schema;
  const pages = ['README.md', ...globSync('docs/*.md', { cwd: ROOT })].filter((page) => !page.includes('from-go-collector'));
  const named = pages.flatMap((page) => {
    const text = readFileSync(`${ROOT}${page}`, 'utf8');
    const set = Array.from(text.matchAll(/--set ([\w.]+)=/g), ([, value]) => value);
    // `service` is also OpenTelemetry's, and `grpc` a package of Protobuf.
    const quoted = Array.from(text.matchAll(/`([a-z]\w*(?:\.\w+)+)`/gi), ([, value]) => value);
    return set.concat(quoted.filter((value) => !/^(service|grpc)\./.test(value) && value.split('.')[0] in schema.properties!));
  });
  expect(named.length).toBeGreaterThan(15);
  expect(named.filter((value) => schemaOf(schema, value.split('.')) === undefined)).toEqual([]);
});

function schemaOf(schema: Schema | undefined, [key, ...rest]: readonly string[]): Schema | undefined {
  return key === undefined ? schema : schemaOf(schema?.properties?.[key], rest);
}
