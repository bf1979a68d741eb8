import { expect, test } from 'vitest';
import { unknownVariables } from '../../src/config/unknown-variables.ts';
import { variables } from '../../src/config/variables.ts';

test.each([
  ['ENABLE_DISKBUFFER', 'ENABLE_DISK_BUFFER'],
  ['CLICKHOUSE_USER', 'CLICKHOUSE_USERNAME'],
  ['CLICKHOUSE_PASS', 'CLICKHOUSE_PASSWORD'],
  ['CLICKHOUSE_PASSWORD_FILES', 'CLICKHOUSE_PASSWORD_FILE'],
  ['BATCH_MAX_SPAN', 'BATCH_MAX_SPANS'],
  ['BATCH_TIMEOUT', 'BATCH_TIMEOUT_MS'],
  ['batch_timeout_ms', 'BATCH_TIMEOUT_MS'],
  ['DISK_BUFFER_SIZE_MB', 'DISK_BUFFER_MAX_SIZE_MB'],
  ['HIVE_OTEL_AUTH_ENDPIONT', 'HIVE_OTEL_AUTH_ENDPOINT'],
  ['HEALTHCHEK_PORTS', 'HEALTHCHECK_PORT'],
])('%s is named with %s', (name, nearest) => {
  expect(unknownVariables({ [name]: 'x' })).toEqual([`${name} is not a setting of the collector. Did you mean ${nearest}?`]);
});

test('what is known, and what others set, is not', () => {
  const known = Object.keys(variables);
  const others = [
    'PATH', 'HOME', 'HOSTNAME', 'LOGNAME', 'USER', 'PWD', 'SHLVL', 'LANG', 'TERM', 'TZ', 'TMPDIR',
    'NODE_OPTIONS', 'NODE_ENV', 'NODE_VERSION', 'npm_config_user_agent', 'npm_lifecycle_event', 'npm_package_version',
    'LD_PRELOAD', 'MALLOC_CONF', 'DATABASE_URL', 'LOCAL_DATA_DIR', 'LOCAL_CLICKHOUSE_PORT',
    'KUBERNETES_SERVICE_HOST', 'KUBERNETES_PORT_443_TCP_ADDR',
    'CLICKHOUSE_SERVICE_HOST', 'CLICKHOUSE_PORT_8123_TCP', 'CLICKHOUSE_SERVICE_PORT_HTTP',
    'OTEL_RESOURCE_ATTRIBUTES', 'OTEL_SERVICE_NAMES', 'HTTP_PROXY', 'GRPC_TRACE', 'REDIS_HOST', 'AWS_REGION',
  ]; // prettier-ignore
  expect(unknownVariables(Object.fromEntries([...known, 'CLICKHOUSE_PASSWORD_FILE', ...others].map((name) => [name, 'x'])))).toEqual([]);
});
