import { readFileSync } from 'node:fs';
import { hasReusePort } from '../runtime/reuse-port.ts';
import { hasParts, urlOfParts } from './server-url.ts';
import type { Variable } from './variable.ts';
import { variables, type Config, type VariableName } from './variables.ts';

/** Invalid environment variables. The message lists every problem. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      `The configuration has ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}:\n` +
        problems.map((line) => `  - ${line}`).join('\n'),
    );
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads and validates every variable. An empty value counts as unset, because container tools set unset variables to ''.
 * @param platform that the collector runs on
 * @throws ConfigError that lists every problem: the variable, its value and the allowed values
 */
export function loadConfig(env: Environment, platform = process.platform): Config {
  const problems: string[] = [];
  const config: Record<string, unknown> = {};
  const files: Record<string, string> = {};

  for (const [name, variable] of Object.entries<Variable<unknown>>(variables)) {
    const isRead = variable.onlyWith === undefined || config[variable.onlyWith] === true;
    const given = isRead ? read(env, name, variable, files, problems) : undefined;
    if (given === undefined) {
      config[name] = variable.fallback;
      if (
        variable.fallback === undefined &&
        variable.optional !== true &&
        !isReplaced(variable, env) &&
        !problems.some((line) => line.startsWith(`${name}_FILE`))
      ) {
        problems.push(`${name} is not set. Allowed: ${variable.allowed}. ${variable.help}`);
      }
      continue;
    }
    const parsed = variable.schema.safeParse(given);
    if (parsed.success) config[name] = parsed.data;
    else
      problems.push(
        `${name} is ${variable.secret || mayHoldPassword(given) ? 'not valid (the value is not shown)' : JSON.stringify(given)}. ` +
          `Allowed: ${variable.allowed}.`,
      );
  }

  const { CLICKHOUSE_URL, CLICKHOUSE_PROTOCOL, CLICKHOUSE_HOST } = config as Partial<Config>;
  if (CLICKHOUSE_URL === undefined && CLICKHOUSE_PROTOCOL !== undefined && CLICKHOUSE_HOST !== undefined)
    config.CLICKHOUSE_URL = [urlOfParts(config as Config)];

  // With the disk buffer, requests wait until their block is written to disk, but not for its insert.
  if (config.ENABLE_DISK_BUFFER === true && !env.BATCH_TIMEOUT_MS) config.BATCH_TIMEOUT_MS = 1000;
  if (config.ENABLE_DISK_BUFFER === true && !env.SEAL_INTERVAL_MS) config.SEAL_INTERVAL_MS = 10;

  problems.push(...contradictions(config, env, platform));
  // GRPC_MAX_CONNECTION_AGE_MS is its earlier name, from when it applied to gRPC only.
  if (!env.MAX_CONNECTION_AGE_MS) config.MAX_CONNECTION_AGE_MS = config.GRPC_MAX_CONNECTION_AGE_MS ?? config.MAX_CONNECTION_AGE_MS;
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze({ ...config, files }) as Config;
}

/** Reads a variable's text; for a secret, also from the file that `<NAME>_FILE` names. Undefined if it is unset. */
function read(
  env: Environment,
  name: string,
  variable: Variable<unknown>,
  files: Record<string, string>,
  problems: string[],
): string | undefined {
  const given = env[name] === '' || variable.ignored?.test(env[name] ?? '') ? undefined : env[name];
  const file = variable.secret ? env[`${name}_FILE`] : undefined;
  if (file === undefined || file === '') return given;
  if (given !== undefined) {
    problems.push(`${name}_FILE and ${name} are both set. Allowed: one of them.`);
    return given;
  }
  try {
    const text = readValue(file);
    files[name] = file;
    return text;
  } catch (error) {
    problems.push(
      `${name}_FILE is ${JSON.stringify(file)}, which can't be read (${(error as NodeJS.ErrnoException).code}). ` +
        `Allowed: a readable file that holds the value of ${name}.`,
    );
    return undefined;
  }
}

/** Whether the variable that can replace this one is set. */
function isReplaced({ orVariable }: Variable<unknown>, env: Environment): boolean {
  return orVariable !== undefined && Boolean(env[orVariable]);
}

/** Whether the value looks like a URL with credentials. */
function mayHoldPassword(given: string): boolean {
  return /\/\/[^/]*@/.test(given);
}

/** The value in a file, without trailing white space. @throws when the file can't be read */
export function readValue(file: string): string {
  return readFileSync(file, 'utf8').trimEnd();
}

/** The problems of settings that are valid by themselves, but not together or on this platform. Invalid ones are missing from `config`. */
function contradictions(config: Partial<Config>, env: Environment, platform: NodeJS.Platform): string[] {
  const problems: string[] = [];
  if (config.DISABLE_AUTH === false && !env.HIVE_OTEL_AUTH_ENDPOINT) {
    problems.push('HIVE_OTEL_AUTH_ENDPOINT is not set. Allowed: an http:// or https:// URL; or set DISABLE_AUTH=true to accept everyone.');
  }
  const parts = {
    CLICKHOUSE_PROTOCOL: env.CLICKHOUSE_PROTOCOL ? config.CLICKHOUSE_PROTOCOL : undefined,
    CLICKHOUSE_HOST: config.CLICKHOUSE_HOST,
    CLICKHOUSE_PORT: config.CLICKHOUSE_PORT,
  };
  if (config.CLICKHOUSE_URL !== undefined && !(config.CLICKHOUSE_URL.length === 1 && hasParts(config.CLICKHOUSE_URL[0], parts))) {
    const given = Object.entries(parts).flatMap(([name, value]) => (value === undefined ? [] : [name]));
    if (given.length > 0)
      problems.push(`CLICKHOUSE_URL and ${given.join(', ')} name different servers. Allowed: one of them, or the same server in both.`);
  }
  if (
    (config.CLICKHOUSE_TLS_CERT_FILE === undefined) !== (config.CLICKHOUSE_TLS_KEY_FILE === undefined) &&
    (!env.CLICKHOUSE_TLS_CERT_FILE || !env.CLICKHOUSE_TLS_KEY_FILE)
  ) {
    problems.push('CLICKHOUSE_TLS_CERT_FILE and CLICKHOUSE_TLS_KEY_FILE are not both set. Allowed: both or none.');
  }
  const usesTls = config.CLICKHOUSE_TLS_CA_FILE !== undefined || config.CLICKHOUSE_TLS_CERT_FILE !== undefined;
  if (usesTls && config.CLICKHOUSE_URL?.some((url) => !url.startsWith('https://'))) {
    problems.push(
      'CLICKHOUSE_TLS_CA_FILE or CLICKHOUSE_TLS_CERT_FILE is set, and CLICKHOUSE_URL has a URL that is not https://. ' +
        'Allowed: only https:// URLs.',
    );
  }
  if (
    config.ENABLE_SELF_TRACING &&
    !config.OTEL_SDK_DISABLED &&
    !env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT &&
    !env.OTEL_EXPORTER_OTLP_ENDPOINT
  ) {
    problems.push('ENABLE_SELF_TRACING is true, and OTEL_EXPORTER_OTLP_ENDPOINT is not set. Allowed: an http:// or https:// URL.');
  }
  const grpcAgeMs = config.GRPC_MAX_CONNECTION_AGE_MS;
  if (
    env.MAX_CONNECTION_AGE_MS &&
    grpcAgeMs !== undefined &&
    config.MAX_CONNECTION_AGE_MS !== undefined &&
    grpcAgeMs !== config.MAX_CONNECTION_AGE_MS
  ) {
    problems.push(
      `MAX_CONNECTION_AGE_MS is ${config.MAX_CONNECTION_AGE_MS}, and GRPC_MAX_CONNECTION_AGE_MS, its earlier name, is ${grpcAgeMs}. ` +
        'Allowed: one of them.',
    );
  }
  const { INGEST_THREADS: threads = 1 } = config;
  if (threads > 1 && !hasReusePort(platform))
    problems.push(`INGEST_THREADS is ${threads}, and ${platform} can't share a port between threads: that takes Linux. Allowed: 1.`);
  const { INGEST_THREADS_MIN: least = 1 } = config;
  if (least > threads) problems.push(`INGEST_THREADS_MIN is ${least}, and INGEST_THREADS is ${threads}. Allowed: at most INGEST_THREADS.`);
  const ports = new Map<number, VariableName>();
  for (const name of ['PORT', 'GRPC_PORT', 'HEALTH_PORT', 'HEALTHCHECK_PORT'] as const) {
    const port = config[name];
    if (port === undefined) continue;
    const taken = ports.get(port);
    if (taken !== undefined) problems.push(`${name} and ${taken} are both ${port}. Allowed: different ports.`);
    ports.set(port, name);
  }
  return problems;
}
