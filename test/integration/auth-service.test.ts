import type { RequestListener } from 'node:http';
import { setImmediate as nextTick, setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, expect, test, vi, type MockInstance } from 'vitest';
import { AuthService } from '../../src/auth/auth.service.ts';
import { RequestCounts } from '../../src/telemetry/request-counts.ts';
import type { Target } from '../../src/auth/target.ts';
import type { Config } from '../../src/config/variables.ts';
import { accept, after, configFor, json, raw, startHive, type Hive } from './auth-hive.ts';

const token = 'Bearer secret-token';
const ref = 'org/project/target';
const down = raw(503, '');

let warn: MockInstance<Logger['warn']>;
beforeEach(() => {
  warn = vi.spyOn(Logger.prototype, 'warn').mockReturnValue(undefined);
});
afterEach(() => vi.restoreAllMocks());

function authFor(hive: Hive, changes: Partial<Record<keyof Config, string>> = {}): AuthService {
  return new AuthService(configFor(hive, changes), new RequestCounts());
}

/** As a caller sees it: a throw and a rejection are one. */
async function authenticate(
  auth: AuthService,
  authorization: string | undefined = token,
  targetRef: string | undefined = ref,
): Promise<Target> {
  return auth.authenticate(authorization, targetRef);
}

/** Stops the clock that the age of tokens is read from, so that it does not matter how busy the machine is. Timers go on. */
function stopClock(): { advance(ms: number): void } {
  let nowMs = performance.now();
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  return { advance: (ms) => void (nowMs += ms) };
}

/** Resolves with the result of `work`, or with 'it waits longer' after so many ms. Timers of one process end in their order. */
async function within<T>(ms: number, work: Promise<T>): Promise<T | string> {
  return Promise.race([work, sleep(ms, 'it waits longer', { ref: false })]);
}

/** An answer that is given when `open` is called. */
function gated(answer: RequestListener): { readonly answer: RequestListener; readonly open: () => void } {
  const gate = Promise.withResolvers<void>();
  return { answer: (...exchange) => void gate.promise.then(() => answer(...exchange)), open: gate.resolve };
}

test('answers a known token without a promise and without asking again', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive);
  expect(await authenticate(auth)).toEqual({ id: 'target-1' });
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  expect(auth.stats).toMatchObject({
    accepted: 2,
    cacheHits: 1,
    lookups: 1,
    refused: 0,
    unavailable: 0,
    staleServed: 0,
    lookupFailures: 0,
  });
  expect(auth.lookupSeconds.sum).toBeGreaterThan(0);
  expect(hive.asked).toHaveLength(1);
});

test('asks once for a hundred requests at the same time', async () => {
  await using hive = await startHive(after(50, accept));
  const auth = authFor(hive);
  const targets = await Promise.all(Array.from({ length: 100 }, () => authenticate(auth)));
  expect(targets).toEqual(Array.from({ length: 100 }, () => ({ id: 'target-1' })));
  expect(hive.asked).toHaveLength(1);
  expect(auth.stats).toMatchObject({ accepted: 100, lookups: 1 });
});

test('remembers a refusal, and asks again when its time is over', async () => {
  await using hive = await startHive(json(403, { message: 'Not yours.' }));
  const clock = stopClock();
  const auth = authFor(hive, { AUTH_CACHE_REFUSED_TTL_MS: '150' });
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 403, message: 'Not yours.' });
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 403, message: 'Not yours.' });
  expect(hive.asked).toHaveLength(1);
  expect(auth.stats).toMatchObject({ refused: 2, cacheHits: 1 });
  hive.answer = accept;
  clock.advance(160);
  expect(await authenticate(auth)).toEqual({ id: 'target-1' });
});

test('keeps two pairs of headers apart that are one text together', async () => {
  await using hive = await startHive((request, response) =>
    json(200, { targetId: `id-of-${String(request.headers['x-hive-target-ref'])}` })(request, response),
  );
  const auth = authFor(hive);
  expect(await authenticate(auth, 'Bearer ab', 'c')).toEqual({ id: 'id-of-c' });
  expect(await authenticate(auth, 'Bearer a', 'bc')).toEqual({ id: 'id-of-bc' });
});

test('asks again when the TTL is over and takes the new target', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '100' });
  await authenticate(auth);
  hive.answer = json(200, { targetId: 'target-2' });
  await sleep(110);
  expect(await authenticate(auth)).toEqual({ id: 'target-2' });
  expect(hive.asked).toHaveLength(2);
});

test('remembers nothing with a TTL of 0, and still asks once for requests at the same time', async () => {
  await using hive = await startHive(after(30, accept));
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '0', AUTH_CACHE_REFUSED_TTL_MS: '0' });
  await Promise.all([authenticate(auth), authenticate(auth)]);
  expect(hive.asked).toHaveLength(1);
  await authenticate(auth);
  expect(hive.asked).toHaveLength(2);
  hive.answer = down;
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 503 });
  expect(hive.asked).toHaveLength(5);
  hive.answer = json(401, {});
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 401 });
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 401 });
  expect(hive.asked).toHaveLength(7);
});

test('refreshes a token that is two thirds through its TTL while it is served', async () => {
  await using hive = await startHive(accept);
  const clock = stopClock();
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '1500' });
  await authenticate(auth);
  clock.advance(700);
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  expect(auth.stats.lookups).toBe(1);
  hive.answer = json(200, { targetId: 'target-2' });
  clock.advance(350);
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  await vi.waitFor(() => expect(auth.authenticate(token, ref)).toEqual({ id: 'target-2' }), { timeout: 10_000, interval: 5 });
  expect(hive.asked).toHaveLength(2);
  expect(auth.stats.staleServed).toBe(0);
});

test('puts the refusal of a refresh in place of the acceptance at once', async () => {
  await using hive = await startHive(accept);
  const clock = stopClock();
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '3000', AUTH_TIMEOUT_MS: '20000' });
  await authenticate(auth);
  clock.advance(2_050);
  hive.answer = json(403, { message: 'Revoked.' });
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  // Long before the TTL is over.
  await vi.waitFor(() => expect(() => auth.authenticate(token, ref)).toThrow('Revoked.'), { timeout: 10_000, interval: 5 });
  expect(hive.asked).toHaveLength(2);
});

test('refuses a token past its TTL that Hive no longer accepts, and does not fall back to it later', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '50', AUTH_CACHE_REFUSED_TTL_MS: '50' });
  await authenticate(auth);
  hive.answer = json(401, { message: 'Revoked.' });
  await sleep(60);
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 401, message: 'Revoked.' });
  hive.answer = down;
  await sleep(60);
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 503 });
});

test('answers 503 while the endpoint is down, never takes that for a refusal, and recovers with it', async () => {
  await using hive = await startHive(down);
  const auth = authFor(hive);
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 503, retryAfterSeconds: 2 });
  expect(hive.asked).toHaveLength(3);
  expect(auth.stats).toMatchObject({ unavailable: 1, refused: 0, lookups: 1, lookupFailures: 1 });
  hive.answer = accept;
  expect(await authenticate(auth)).toEqual({ id: 'target-1' });
});

test('names the cause of an outage once, without the token', async () => {
  await using hive = await startHive(down);
  const auth = authFor(hive);
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 503 });
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 503 });
  expect(warn).toHaveBeenCalledTimes(1);
  expect(warn.mock.calls[0]?.[0]).toMatchObject({ cause: 'status 503' });
  expect(JSON.stringify(warn.mock.calls)).not.toContain('secret');
});

test('goes on with a known token through an outage, asking only now and then, until the stale limit', async () => {
  await using hive = await startHive(accept);
  const clock = stopClock();
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '50', AUTH_CACHE_STALE_MS: '2000' });
  await authenticate(auth);
  hive.answer = down;
  clock.advance(60);

  expect(await within(1_300, authenticate(auth))).toEqual({ id: 'target-1' });
  await vi.waitFor(() => expect(auth.stats.lookupFailures).toBe(1), { timeout: 10_000 });
  // The failed refresh is not repeated for every request.
  for (let request = 0; request < 100; request++) expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  expect(hive.asked).toHaveLength(4);
  expect(auth.stats).toMatchObject({ staleServed: 101, lookups: 2, unavailable: 0 });

  clock.advance(2_000);
  await expect(authenticate(auth)).rejects.toMatchObject({ status: 503 });
});

test('would take a token that it serves past its TTL, and asks about it no more often for that', async () => {
  await using hive = await startHive(accept);
  const clock = stopClock();
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '50', AUTH_CACHE_REFUSED_TTL_MS: '5000' });
  await authenticate(auth);
  hive.answer = down;
  clock.advance(60);

  const headers = { 'authorization': token, 'x-hive-target-ref': ref };
  expect(await auth.accepts(headers)).toBe(true);
  await vi.waitFor(() => expect(auth.stats.lookupFailures).toBe(1), { timeout: 10_000 });
  const asked = hive.asked.length;
  for (let request = 0; request < 100; request++) expect(auth.accepts(headers)).toBe(true);
  expect(hive.asked).toHaveLength(asked);

  hive.answer = json(403, { message: 'Revoked.' });
  clock.advance(3_050);
  expect(await auth.accepts(headers)).toBe(false);
  expect(auth.accepts(headers)).toBe(false);
  expect(auth.stats).toMatchObject({ accepted: 1, refused: 0, lookups: 3 });
});

test('asks again some seconds after a failed refresh', async () => {
  await using hive = await startHive(accept);
  const clock = stopClock();
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '50' });
  await authenticate(auth);
  hive.answer = down;
  clock.advance(60);
  await authenticate(auth);
  await vi.waitFor(() => expect(auth.stats.lookupFailures).toBe(1), { timeout: 10_000 });
  hive.answer = json(200, { targetId: 'target-2' });
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  clock.advance(3_050);
  expect(await authenticate(auth)).toEqual({ id: 'target-2' });
});

test('waits a second at most for a slow endpoint when the token is known, and then takes its answer', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '50' });
  await authenticate(auth);
  const endpoint = gated(json(200, { targetId: 'target-2' }));
  hive.answer = endpoint.answer;
  await sleep(60);

  const waited = Array.from({ length: 10 }, async () => {
    const startMs = performance.now();
    expect(await within(1_400, authenticate(auth))).toEqual({ id: 'target-1' });
    expect(performance.now() - startMs).toBeGreaterThan(900);
  });
  await Promise.all(waited);
  // The second is over: nobody waits for this lookup any more.
  expect(await Promise.race([authenticate(auth), nextTick('it waits')])).toEqual({ id: 'target-1' });
  expect(auth.stats).toMatchObject({ staleServed: 11, lookups: 2 });

  endpoint.open();
  await vi.waitFor(() => expect(auth.authenticate(token, ref)).toEqual({ id: 'target-2' }), { timeout: 10_000, interval: 10 });
  expect(hive.asked).toHaveLength(2);
});

test('takes the answer of an endpoint that needs less than a second over the stale one', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '50' });
  await authenticate(auth);
  hive.answer = after(50, json(200, { targetId: 'target-2' }));
  await sleep(60);
  expect(await authenticate(auth)).toEqual({ id: 'target-2' });
  expect(auth.stats.staleServed).toBe(0);
});

test('waits for a slow endpoint when the token is unknown', async () => {
  await using hive = await startHive(after(1_300, accept));
  const auth = authFor(hive);
  expect(await authenticate(auth)).toEqual({ id: 'target-1' });
});

test('forgets the token used least when the cache is full', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive, { AUTH_CACHE_MAX_ENTRIES: '2' });
  for (const name of ['Bearer a', 'Bearer b', 'Bearer a', 'Bearer c']) await authenticate(auth, name);
  expect(auth.stats.lookups).toBe(3);
  await authenticate(auth, 'Bearer a');
  expect(auth.stats.lookups).toBe(3);
  await authenticate(auth, 'Bearer b');
  expect(auth.stats.lookups).toBe(4);
});

test('keeps the good tokens when wrong ones pour in', async () => {
  await using hive = await startHive((request, response) =>
    (request.headers.authorization === token ? accept : json(401, {}))(request, response),
  );
  const auth = authFor(hive, { AUTH_CACHE_MAX_ENTRIES: '2' });
  await authenticate(auth);
  for (let wrong = 0; wrong < 5; wrong++) await expect(authenticate(auth, `Bearer wrong-${wrong}`)).rejects.toMatchObject({ status: 401 });
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
});

test('answers 503 to unknown tokens past 256 lookups under way, and still refreshes a known one', async () => {
  await using hive = await startHive(accept);
  const clock = stopClock();
  const auth = authFor(hive, { AUTH_CACHE_TTL_MS: '3000', AUTH_TIMEOUT_MS: '20000' });
  await authenticate(auth);
  const endpoint = gated((request, response) =>
    (request.headers.authorization === token ? json(200, { targetId: 'target-2' }) : json(401, {}))(request, response),
  );
  hive.answer = endpoint.answer;

  const flood = Array.from({ length: 256 }, (_, wrong) => authenticate(auth, `Bearer wrong-${wrong}`).catch((error: unknown) => error));
  expect(auth.stats.lookups).toBe(257);
  await expect(authenticate(auth, 'Bearer one-more')).rejects.toMatchObject({ status: 503 });
  expect(auth.stats).toMatchObject({ lookups: 257, unavailable: 1 });

  clock.advance(2_100);
  expect(auth.authenticate(token, ref)).toEqual({ id: 'target-1' });
  expect(auth.stats.lookups).toBe(258);
  endpoint.open();
  expect(await Promise.all(flood)).toEqual(Array.from({ length: 256 }, () => expect.objectContaining({ status: 401 })));
  await vi.waitFor(() => expect(auth.authenticate(token, ref)).toEqual({ id: 'target-2' }), { timeout: 10_000 });
  // There is room again.
  await expect(authenticate(auth, 'Bearer one-more')).rejects.toMatchObject({ status: 401 });
});

test('asks for the credentials before it asks for the target ref', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive);
  expect(() => auth.authenticate(undefined, undefined)).toThrow(expect.objectContaining({ status: 401 }));
  expect(() => auth.authenticate('', ref)).toThrow(expect.objectContaining({ status: 401 }));
  expect(() => auth.authenticate(token, undefined)).toThrow(expect.objectContaining({ status: 400 }));
  expect(() => auth.authenticate(token, '')).toThrow(expect.objectContaining({ status: 400 }));
  expect(hive.asked).toHaveLength(0);
});

test('takes the target ref itself for the target with DISABLE_AUTH, and asks nobody', async () => {
  await using hive = await startHive(accept);
  const auth = authFor(hive, { DISABLE_AUTH: 'true' });
  expect(auth.authenticate(undefined, 'my-target')).toEqual({ id: 'my-target' });
  expect(auth.authenticate(token, undefined)).toEqual({ id: 'default' });
  expect(auth.stats).toMatchObject({ accepted: 2, lookups: 0 });
  expect(hive.asked).toHaveLength(0);
});

test("does not repeat Hive's words when they quote the token", async () => {
  await using hive = await startHive((request, response) =>
    json(401, { message: `No such token: ${request.headers.authorization?.slice('Bearer '.length)}` })(request, response),
  );
  await expect(authFor(hive).authenticate('Bearer 0123456789abcdef', ref)).rejects.toMatchObject({
    status: 401,
    message: 'Hive does not know this access token.',
  });
});
