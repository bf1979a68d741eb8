import type { Variable } from './variable.ts';
import { variables } from './variables.ts';

/** The text of `--help`: every variable with its default, its allowed values and its purpose. */
export function helpText(): string {
  const lines = [
    'Hive OTEL Trace Collector',
    '',
    'npm start        every setting is an environment variable:',
    'npm run local    the same with its own ClickHouse, to try it out',
    '',
  ];
  for (const [name, variable] of Object.entries<Variable<unknown>>(variables)) {
    lines.push(
      `${name}   (${describeDefault(variable)})`,
      `    ${variable.help}`,
      `    Allowed: ${variable.allowed}.${variable.secret ? ` Or name a file with it in ${name}_FILE.` : ''}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** The value when the variable is not set, in words. */
function describeDefault({ fallback, fallbackRule, optional, orVariable }: Variable<unknown>): string {
  if (fallbackRule !== undefined) return `default: ${fallbackRule}`;
  if (Array.isArray(fallback)) return `default: ${fallback.join(', ') || 'empty'}`;
  if (fallback === '') return 'default: empty';
  if (fallback !== undefined) return `default: ${fallback as string | number | boolean}`;
  if (optional) return 'no default';
  return orVariable === undefined ? 'required' : `required, or ${orVariable}`;
}
