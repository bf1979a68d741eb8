import { describe, expect, test } from 'vitest';
import { refused } from '../../src/grpc/status.ts';
import { RpcStatus } from '../../src/otlp/messages.ts';
import { Refusal } from '../../src/otlp/refusal.ts';
import { retryDelayOf } from '../support/clients/grpc-client.ts';

/** gRPC codes that OTLP senders retry without a RetryInfo (OTLP 1.11, "Failures"). They retry RESOURCE_EXHAUSTED only with one. */
const RETRYABLE = new Set(['1', '4', '10', '11', '14', '15']);

describe('a refusal over gRPC', () => {
  test.each([
    [400, '3'],
    [401, '16'],
    [403, '7'],
    [404, '5'],
    [413, '8'],
    [415, '12'],
    [429, '8'],
    [500, '13'],
  ] as const)('with status %i has code %s, and is not repeated', (status, code) => {
    const trailers = refused(new Refusal(status, 'No.'));

    expect(trailers).toEqual({ 'grpc-status': code, 'grpc-message': 'No.' });
    expect(RETRYABLE.has(code)).toBe(false);
  });

  test('of a message that stayed away may be repeated, as nothing of it is stored', () => {
    expect(RETRYABLE.has(String(refused(new Refusal(408, 'Too slow.'))['grpc-status']))).toBe(true);
  });

  test.each([
    [429, '8'],
    [503, '14'],
  ] as const)('with status %i and a time to come back says so in a RetryInfo', (status, code) => {
    const trailers = refused(new Refusal(status, 'Later.', 7));
    const details = Buffer.from(String(trailers['grpc-status-details-bin']), 'base64');

    expect(trailers).toMatchObject({ 'grpc-status': code, 'grpc-message': 'Later.' });
    expect(RpcStatus.decode(details)).toMatchObject({ code: Number(code), message: 'Later.' });
    expect(retryDelayOf(details)).toBe(7);
  });

  test.each(['100 % sure: "a, b"?', 'grüße, 你好 \u{1f680}', 'line\nbreak', '\ud800 alone'])(
    'brings its message across in ASCII: %j',
    (message) => {
      const text = String(refused(new Refusal(400, message))['grpc-message']);

      expect(text).toMatch(/^[ -~]*$/);
      expect(decodeURI(text)).toBe(message.toWellFormed());
    },
  );
});
