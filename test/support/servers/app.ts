import 'reflect-metadata';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { register } from 'prom-client';
import { AppModule } from '../../../src/app.module.ts';
import { collectorConfig } from '../../../src/config/config.module.ts';
import { loadConfig } from '../../../src/config/load-config.ts';
import type { PortName } from '../../../src/http/port-server.ts';
import { createAdapter } from '../../../src/server/adapter.ts';
import { Ports } from '../../../src/server/ports.ts';
import type { Environment } from './collector.ts';

/** The collector in the process of the test, on free ports. */
export interface TestApp extends AsyncDisposable {
  readonly app: NestFastifyApplication;
  /** http://127.0.0.1:… of each port. */
  readonly urls: Readonly<Record<PortName, string>>;
}

/** Starts AppModule with the real defaults, except for `env`. Only one at a time: prom-client has one registry per process. */
export async function startApp(env: Environment): Promise<TestApp> {
  register.clear();
  const config = {
    ...loadConfig({ HOST: '127.0.0.1', LOG_LEVEL: 'silent', INGEST_THREADS: '1', ...env }),
    PORT: 0,
    HEALTH_PORT: 0,
    HEALTHCHECK_PORT: 0,
  };
  const testing = await Test.createTestingModule({ imports: [AppModule] })
    .overrideProvider(collectorConfig.KEY)
    .useValue(config)
    .compile();
  const app = testing.createNestApplication<NestFastifyApplication>(createAdapter(), { bodyParser: false, logger: false });
  const { otlp, admin, healthcheck } = await app.get(Ports).open(app);
  return {
    app,
    urls: { otlp: `http://127.0.0.1:${otlp}`, admin: `http://127.0.0.1:${admin}`, healthcheck: `http://127.0.0.1:${healthcheck}` },
    [Symbol.asyncDispose]: () => app.close(),
  };
}
