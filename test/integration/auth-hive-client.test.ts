import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { askHive } from '../../src/auth/hive-auth.ts';
import { accept, after, hangUp, json, raw, startHive } from './auth-hive.ts';

const credentials = { authorization: 'Bearer secret-token', targetRef: 'org/project/target' };
const timeoutMs = 2_000;

test("passes on the sender's two headers and takes the target id from the answer", async () => {
  await using hive = await startHive(accept);
  await expect(askHive(hive.url, timeoutMs, credentials)).resolves.toEqual({ status: 'accepted', targetId: 'target-1' });
  expect(hive.asked).toHaveLength(1);
  expect(hive.asked[0]).toMatchObject({ authorization: 'Bearer secret-token', 'x-hive-target-ref': 'org/project/target' });
});

test('reads an answer that the endpoint compressed', async () => {
  await using hive = await startHive(
    (_, response) => void response.writeHead(200, { 'Content-Encoding': 'gzip' }).end(gzipSync('{"targetId":"small"}')),
  );
  await expect(askHive(hive.url, timeoutMs, credentials)).resolves.toEqual({ status: 'accepted', targetId: 'small' });
});

test.each([400, 401, 403, 404] as const)("takes %i for a refusal, with Hive's message", async (httpStatus) => {
  await using hive = await startHive(json(httpStatus, { message: 'No, says Hive.' }));
  await expect(askHive(hive.url, timeoutMs, credentials)).resolves.toEqual({ status: 'refused', httpStatus, message: 'No, says Hive.' });
  expect(hive.asked).toHaveLength(1);
});

test.each([
  ['the member error', '{"error":"Bad token"}', 'Bad token'],
  ['an empty message beside an error', '{"message":"","error":"Bad token"}', 'Bad token'],
  ['a message that is no string', '{"message":{"a":1}}', undefined],
  ['HTML', '<html>Not found</html>', undefined],
  ['nothing', '', undefined],
  ['null', 'null', undefined],
  ['a message longer than 300 characters', `{"message":"${'m'.repeat(1_000)}"}`, 'm'.repeat(300)],
  ['more than 64 KiB', `{"message":"short","rest":"${'x'.repeat(70_000)}"}`, undefined],
])('refuses with what Hive says when the body is %s', async (_, body, message) => {
  await using hive = await startHive(raw(403, body));
  await expect(askHive(hive.url, timeoutMs, credentials)).resolves.toEqual({ status: 'refused', httpStatus: 403, message });
});

test('takes the status of a refusal whose body breaks off for the verdict', async () => {
  await using hive = await startHive((_, response) => {
    response.writeHead(401, { 'Content-Length': '100' });
    response.write('{"mess', () => response.destroy());
  });
  await expect(askHive(hive.url, timeoutMs, credentials)).resolves.toEqual({ status: 'refused', httpStatus: 401, message: undefined });
});

test.each([
  ['status 500', json(500, { message: 'broken' }), 'status 500'],
  ['status 503', raw(503, ''), 'status 503'],
  ['status 429', raw(429, ''), 'status 429'],
  ['status 408', raw(408, ''), 'status 408'],
  ['status 405, as of a wrong URL', raw(405, ''), 'status 405'],
  ['status 407, of a proxy in between', raw(407, ''), 'status 407'],
  ['status 421', raw(421, ''), 'status 421'],
  ['status 425', raw(425, ''), 'status 425'],
  [
    '200 with a target of control characters',
    json(200, { targetId: 'target\u0000' }),
    'status 200 with a targetId that is too long, or has control characters',
  ],
  [
    '200 with a target over several lines',
    json(200, { targetId: 'target\nforged: line' }),
    'status 200 with a targetId that is too long, or has control characters',
  ],
  [
    '200 with a target of 20 KB',
    json(200, { targetId: 't'.repeat(20_000) }),
    'status 200 with a targetId that is too long, or has control characters',
  ],
  ['status 204', raw(204, ''), 'status 204'],
  ['a redirect', raw(302, '', { Location: '/elsewhere' }), 'status 302'],
  ['200 without a target', json(200, {}), 'status 200 without a targetId'],
  ['200 with an empty target', json(200, { targetId: '' }), 'status 200 without a targetId'],
  ['200 with a number for a target', json(200, { targetId: 7 }), 'status 200 without a targetId'],
  ['200 with HTML', raw(200, '<html>'), 'status 200 without a targetId'],
  ['200 with more than 64 KiB', json(200, { targetId: 'a', rest: 'x'.repeat(70_000) }), 'status 200 without a targetId'],
  ['a dead socket', hangUp, 'ECONNRESET'],
])('takes %s for an outage after three tries', async (_, answer, cause) => {
  await using hive = await startHive(answer);
  await expect(askHive(hive.url, timeoutMs, credentials)).rejects.toMatchObject({ name: 'AuthOutage', message: cause });
  expect(hive.asked).toHaveLength(3);
});

test('gets a verdict from an endpoint that fails twice and then answers', async () => {
  await using hive = await startHive(json(502, {}));
  const fail = hive.answer;
  hive.answer = (request, response) => (hive.asked.length < 3 ? fail : accept)(request, response);
  await expect(askHive(hive.url, timeoutMs, credentials)).resolves.toMatchObject({ status: 'accepted' });
  expect(hive.asked).toHaveLength(3);
});

test('waits no longer than the timeout for an answer, nor for the rest of a body', async () => {
  await using silent = await startHive(after(5_000, accept));
  await expect(askHive(silent.url, 60, credentials)).rejects.toMatchObject({ name: 'AuthOutage', message: 'no answer within 60 ms' });
  expect(silent.asked).toHaveLength(3);
  await using unfinished = await startHive((_, response) => void response.writeHead(200).write('{"targetId":'));
  await expect(askHive(unfinished.url, 60, credentials)).rejects.toMatchObject({ name: 'AuthOutage', message: 'no answer within 60 ms' });
});

test('names a refused connection without quoting the request', async () => {
  const gone = await startHive(accept);
  await gone[Symbol.asyncDispose]();
  const error = await askHive(gone.url, timeoutMs, credentials).catch((outage: unknown) => outage);
  expect(error).toMatchObject({ name: 'AuthOutage', message: 'ECONNREFUSED' });
  expect(JSON.stringify(error) + String(error)).not.toContain('secret');
});

test('refuses what can be sent in no header, without asking', async () => {
  await using hive = await startHive(accept);
  await expect(askHive(hive.url, timeoutMs, { ...credentials, authorization: 'Bearer secret\ntoken' })).resolves.toMatchObject({
    status: 'refused',
    httpStatus: 401,
  });
  await expect(askHive(hive.url, timeoutMs, { ...credentials, targetRef: 'org/\u20ac' })).resolves.toMatchObject({
    status: 'refused',
    httpStatus: 400,
  });
  expect(hive.asked).toHaveLength(0);
});

test.each([402, 413, 414, 418, 422, 431, 451])(
  'takes %i for a refusal of these credentials, and the sender is told 400',
  async (httpStatus) => {
    await using hive = await startHive(json(httpStatus, { message: 'No, says Hive.' }));
    await expect(askHive(hive.url, timeoutMs, credentials)).resolves.toEqual({
      status: 'refused',
      httpStatus: 400,
      message: 'No, says Hive.',
    });
    expect(hive.asked).toHaveLength(1);
  },
);

test('keeps its connection for the next question', async () => {
  const connections = new Set<unknown>();
  await using hive = await startHive((request, response) => {
    connections.add(request.socket);
    accept(request, response);
  });
  for (let count = 0; count < 5; count++) await askHive(hive.url, timeoutMs, credentials);
  expect(connections.size).toBe(1);
});

test('does not follow a redirect with the token', async () => {
  await using elsewhere = await startHive(accept);
  await using hive = await startHive(raw(307, '', { Location: elsewhere.url }));
  await expect(askHive(hive.url, timeoutMs, credentials)).rejects.toMatchObject({ name: 'AuthOutage' });
  expect(elsewhere.asked).toHaveLength(0);
});
