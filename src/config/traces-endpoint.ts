import { hostname } from 'node:os';
import type { Config } from './variables.ts';

/** The URL that the collector's own traces are sent to; undefined if self-tracing is off. */
export function tracesEndpoint(config: Config): string | undefined {
  if (!config.ENABLE_SELF_TRACING || config.OTEL_SDK_DISABLED) return undefined;
  const { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: whole, OTEL_EXPORTER_OTLP_ENDPOINT: base = '' } = config;
  return whole ?? `${base.replace(/\/$/, '')}/v1/traces`;
}

/** Whether that URL is this collector itself, as far as its address shows. */
export function tracesIntoItself(config: Config): boolean {
  const endpoint = URL.parse(tracesEndpoint(config) ?? '');
  if (endpoint === null || Number(endpoint.port || 80) !== config.PORT) return false;
  return (
    /^(localhost|127\..*|\[::1\]|0\.0\.0\.0|\[::\])$/.test(endpoint.hostname) ||
    endpoint.hostname === config.HOST ||
    endpoint.hostname === hostname()
  );
}
