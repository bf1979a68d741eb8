import { expect, test } from 'vitest';
import { credentialsKey } from '../../src/auth/credentials.ts';

test('gives equal headers one key, and hides the token in it', () => {
  const key = credentialsKey({ authorization: 'Bearer secret', targetRef: 'a/b/c' });
  expect(credentialsKey({ authorization: 'Bearer secret', targetRef: 'a/b/c' })).toBe(key);
  expect(key).toMatch(/^[A-Za-z0-9+/]{43}=$/);
});

test.each([
  [
    { authorization: 'Bearer ab', targetRef: 'c' },
    { authorization: 'Bearer a', targetRef: 'bc' },
  ],
  [
    { authorization: 'a:b', targetRef: 'c' },
    { authorization: 'a', targetRef: ':bc' },
  ],
  [
    { authorization: '1', targetRef: '1:12' },
    { authorization: '11:1', targetRef: '2' },
  ],
  [
    { authorization: 'a\n', targetRef: 'b' },
    { authorization: 'a', targetRef: '\nb' },
  ],
  [
    { authorization: 'a', targetRef: 'b' },
    { authorization: 'b', targetRef: 'a' },
  ],
])('keeps %j and %j apart', (one, other) => {
  expect(credentialsKey(one)).not.toBe(credentialsKey(other));
});
