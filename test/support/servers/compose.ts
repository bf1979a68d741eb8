import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

export interface ComposeService {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly stop_grace_period?: string;
  readonly read_only?: boolean;
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes?: Readonly<Record<string, unknown>>;
}

/**
 * Reads a compose file as `docker compose` does when no variable is set: `${NAME:-default}` is the default, and numbers are text.
 * @throws TypeError for a variable that is `true` or `false` without quotes: not every version accepts it
 */
export function readCompose(yaml: string): ComposeFile {
  const file = parse(yaml.replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1')) as ComposeFile;
  for (const service of Object.values(file.services)) {
    const given: Readonly<Record<string, unknown>> = service.environment;
    for (const [name, value] of Object.entries(given))
      if (typeof value !== 'string' && typeof value !== 'number') throw new TypeError(`${name} is neither text nor a number`);
    Object.assign(service, { environment: Object.fromEntries(Object.entries(given).map(([name, value]) => [name, String(value)])) });
  }
  return file;
}

/** The same for a file. */
export function readComposeFile(path: string): ComposeFile {
  return readCompose(readFileSync(path, 'utf8'));
}
