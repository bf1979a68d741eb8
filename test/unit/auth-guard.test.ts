import type { ExecutionContext } from '@nestjs/common';
import { ConfigModule } from '@nestjs/config';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { AuthGuard } from '../../src/auth/auth.guard.ts';
import { AuthModule } from '../../src/auth/auth.module.ts';
import { AuthService } from '../../src/auth/auth.service.ts';
import { CountsModule } from '../../src/telemetry/counts.module.ts';
import { collectorConfig } from '../../src/config/config.module.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import { refusedByHive } from '../../src/otlp/refusal.ts';
import { TracingModule } from '../../src/tracing/tracing.module.ts';

interface FakeRequest {
  readonly headers: Readonly<Record<string, string>>;
  target?: unknown;
}

/** A request of which only the headers may be read. */
function requestWith(headers: Readonly<Record<string, string>>): FakeRequest {
  return Object.defineProperties({ headers }, { raw: { get: untouchable }, body: { get: untouchable } });
}

function untouchable(): never {
  throw new Error('the guard touched the body');
}

function contextOf(request: FakeRequest): ExecutionContext {
  return new ExecutionContextHost([request]);
}

const headers = { authorization: 'Bearer secret-token', 'x-hive-target-ref': 'org/project/target' };
let auth: AuthService;
let guard: AuthGuard;

beforeEach(async () => {
  const config = loadConfig({ CLICKHOUSE_URL: 'http://127.0.0.1:8123', HIVE_OTEL_AUTH_ENDPOINT: 'http://127.0.0.1:9/never-asked' });
  const module = await Test.createTestingModule({
    imports: [
      AuthModule,
      CountsModule,
      TracingModule,
      ConfigModule.forRoot({ isGlobal: true, ignoreEnvFile: true, load: [collectorConfig] }),
    ],
  })
    .overrideProvider(collectorConfig.KEY)
    .useValue(config)
    .compile();
  auth = module.get(AuthService);
  guard = module.get(AuthGuard);
});
afterEach(() => vi.restoreAllMocks());

test('puts a known target on the request without a promise', () => {
  const authenticate = vi.spyOn(auth, 'authenticate').mockReturnValue({ id: 'target-1' });
  const request = requestWith(headers);
  expect(guard.canActivate(contextOf(request))).toBe(true);
  expect(request.target).toEqual({ id: 'target-1' });
  expect(authenticate).toHaveBeenCalledExactlyOnceWith('Bearer secret-token', 'org/project/target');
});

test('waits for a target that has to be asked for', async () => {
  vi.spyOn(auth, 'authenticate').mockResolvedValue({ id: 'target-1' });
  const request = requestWith(headers);
  await expect(guard.canActivate(contextOf(request))).resolves.toBe(true);
  expect(request.target).toEqual({ id: 'target-1' });
});

test('lets nobody through whom Hive refuses', async () => {
  vi.spyOn(auth, 'authenticate').mockRejectedValue(refusedByHive(403, 'Not yours.'));
  const request = requestWith(headers);
  await expect(guard.canActivate(contextOf(request))).rejects.toMatchObject({ status: 403, message: 'Not yours.' });
  expect(request.target).toBeUndefined();
});

test.each([
  ['both headers are missing', {}, 401],
  ['Missing header: Authorization', { 'x-hive-target-ref': 'org/project/target' }, 401],
  ['Authorization is empty', { ...headers, authorization: '' }, 401],
  ['Missing header: X-Hive-Target-Ref', { authorization: 'Bearer secret-token' }, 400],
  ['X-Hive-Target-Ref is empty', { ...headers, 'x-hive-target-ref': '' }, 400],
])('refuses without asking Hive when %s', (_, given, status) => {
  const request = requestWith(given);
  expect(() => guard.canActivate(contextOf(request))).toThrow(expect.objectContaining({ name: 'Refusal', status }));
  expect(auth.stats.lookups).toBe(0);
  expect(request.target).toBeUndefined();
});
