import { tracesEndpoint } from '../config/traces-endpoint.ts';
import type { Config } from '../config/variables.ts';
import { SelfTracing } from './self-tracing.ts';

/** OpenTelemetry's SDK is not even loaded unless the settings want it. */
export async function startTracing(config: Config): Promise<SelfTracing> {
  const endpoint = tracesEndpoint(config);
  if (endpoint === undefined) return new SelfTracing();
  const { Tracer } = await import('./tracer.ts');
  return new SelfTracing(new Tracer(config, endpoint), config.SHUTDOWN_TIMEOUT_MS);
}
