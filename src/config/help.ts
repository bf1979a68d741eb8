import type { Variable } from './variable.ts';
import { variables } from './variables.ts';

/** The text of `--help`: every variable with its default, what is allowed and what it does. */
export function helpText(): string {
  const lines = [
    'Hive OTEL Trace Collector',
    '',
    'npm start        every setting is an environment variable:',
    'npm run local    the same with a ClickHouse of its own, for trying out',
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

/** What holds when the variable is not set. */
function describeDefault({ fallback, fallbackRule, optional, orVariable }: Variable<unknown>): string {
  if (fallbackRule !== undefined) return `default: ${fallbackRule}`;
  if (Array.isArray(fallback)) return `default: ${fallback.join(', ') || 'empty'}`;
  if (fallback === '') return 'default: empty';
  if (fallback !== undefined) return `default: ${fallback as string | number | boolean}`;
  if (optional) return 'no default';
  return orVariable === undefined ? 'required' : `required, or ${orVariable}`;
}
