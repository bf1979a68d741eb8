import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Variable } from '../../src/config/variable.ts';
import { variables } from '../../src/config/variables.ts';

/*
 * What the Helm chart knows of the variables is made from src/config/variables.ts (`npx vitest run test/unit/chart-values.test.ts -u`):
 * the value `env` in values.schema.json, for editors and types, and files/variables.json, by which the templates check texts.
 */

const CHART = '../../charts/hive-otel-collector';
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
