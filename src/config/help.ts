import { variables } from './variables.ts';
import type { Variable } from './variable.ts';

/** The text of `--help`: every variable with its default, what is allowed and what it does. */
export function helpText(): string {
  const lines = ['Hive OTEL Trace Collector', '', 'Usage: npm start            every setting is an environment variable', '       npm run local        with a ClickHouse of its own, for trying out', ''];
  for (const [name, variable] of Object.entries<Variable<unknown>>(variables)) {
    lines.push(`${name}   ${describeDefault(variable)}`, `    ${variable.help}`, `    Allowed: ${variable.allowed}.${variable.secret ? ` Or name a file with it in ${name}_FILE.` : ''}`);
  }
  return `${lines.join('\n')}\n`;
}

function describeDefault(variable: Variable<unknown>): string {
  if (variable.fallback === '') return '(default: empty)';
  if (variable.fallback !== undefined) return `(default: ${String(variable.fallback)})`;
  return variable.optional ? '(no default)' : '(required)';
}
