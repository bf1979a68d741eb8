import { tracesEndpoint } from '../config/traces-endpoint.ts';
import type { Config } from '../config/variables.ts';
import { SelfTracing } from './self-tracing.ts';

/** Starts self-tracing if it is configured. OpenTelemetry's SDK is loaded only then. */
export async function startTracing(config: Config): Promise<SelfTracing> {
  const endpoint = tracesEndpoint(config);
  if (endpoint === undefined) return new SelfTracing();
  const { Tracer } = await import('./tracer.ts');
  return new SelfTracing(new Tracer(config, endpoint), config.SHUTDOWN_TIMEOUT_MS);
}
