import { readFileSync } from 'node:fs';
import { readValue } from '../config/load-config.ts';
import type { Config } from '../config/variables.ts';

/** Credentials for ClickHouse, and the CA certificates that verify its TLS certificate. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
  /** CA certificates, PEM. */
  readonly ca: string | undefined;
  /** Client certificate, PEM. */
  readonly cert: string | undefined;
  /** Private key of `cert`, PEM. */
  readonly key: string | undefined;
}

/**
 * Reads the credentials, again from their files where they come from files: a secret may have been rotated since the start.
 * @throws when a file can't be read
 */
export function readCredentials(config: Config): Credentials {
  return {
    username: current(config, 'CLICKHOUSE_USERNAME'),
    password: current(config, 'CLICKHOUSE_PASSWORD'),
    ca: textOf(config.CLICKHOUSE_TLS_CA_FILE),
    cert: textOf(config.CLICKHOUSE_TLS_CERT_FILE),
    key: textOf(config.CLICKHOUSE_TLS_KEY_FILE),
  };
}

function current(config: Config, name: 'CLICKHOUSE_USERNAME' | 'CLICKHOUSE_PASSWORD'): string {
  const file = config.files[name];
  return file === undefined ? config[name] : readValue(file);
}

function textOf(path: string | undefined): string | undefined {
  return path === undefined ? undefined : readFileSync(path, 'utf8');
}
