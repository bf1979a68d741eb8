import { hostname } from 'node:os';
import type { Config } from './variables.ts';

/** Where the collector's own traces are sent; undefined if nowhere. */
export function tracesEndpoint(config: Config): string | undefined {
  if (!config.ENABLE_SELF_TRACING || config.OTEL_SDK_DISABLED) return undefined;
  const { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: whole, OTEL_EXPORTER_OTLP_ENDPOINT: base = '' } = config;
  return whole ?? `${base.replace(/\/$/, '')}/v1/traces`;
}

/** Whether that is this very collector, as far as its address says so. */
export function tracesIntoItself(config: Config): boolean {
  const endpoint = URL.parse(tracesEndpoint(config) ?? '');
  if (endpoint === null || Number(endpoint.port || 80) !== config.PORT) return false;
  return (
    /^(localhost|127\..*|\[::1\]|0\.0\.0\.0|\[::\])$/.test(endpoint.hostname) ||
    endpoint.hostname === config.HOST ||
    endpoint.hostname === hostname()
  );
}
