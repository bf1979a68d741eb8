import type { INestApplication } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import type { Config } from '../config/variables.ts';
import { originPattern } from '../http/allowed-origins.ts';
import { portOf } from '../http/port-server.ts';

type Cors = Pick<Config, 'CORS_ALLOWED_ORIGINS' | 'CORS_ALLOWED_HEADERS' | 'CORS_MAX_AGE_S'>;

/** Enables CORS on the OTLP port for the configured origins. Does nothing if there are none. */
export function allowOrigins(app: INestApplication, config: Cors): void {
  const { CORS_ALLOWED_ORIGINS: origins, CORS_ALLOWED_HEADERS: headers, CORS_MAX_AGE_S: maxAge } = config;
  if (origins.length === 0) return;
  const options = {
    origin: origins.includes('*') ? '*' : origins.map(originPattern),
    methods: ['POST'],
    // Without a list, all requested headers are allowed: a `*` would not include Authorization.
    ...(!headers.includes('*') && { allowedHeaders: [...headers] }),
    exposedHeaders: ['Retry-After'],
    maxAge,
  };
  app.enableCors((request: FastifyRequest, callback: (error: null, answer: object) => void) =>
    callback(null, portOf(request.raw) === 'otlp' ? { ...options, preflight: isPreflight(request) } : { origin: false }),
  );
}

function isPreflight({ method, headers }: FastifyRequest): boolean {
  return method === 'OPTIONS' && headers.origin !== undefined && headers['access-control-request-method'] !== undefined;
}
