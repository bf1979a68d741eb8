import { describe, expect, test } from 'vitest';
import type { Encoding } from '../../src/otlp/encoding.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { MalformedRequest } from '../../src/transcode/bytes/malformed-request.ts';
import { bytesField, messageField, stringField } from '../support/generators/wire.ts';
import { rowsInFrame } from '../support/oracle/native-rows.ts';

const KB = 1024;
const LIMIT = 2 * KB;

/** A request of spans of exactly so many bytes each, or with a bad id. Their names are their numbers. */
const REQUESTS: Readonly<Record<Encoding, (spans: readonly (number | 'bad id')[]) => Buffer>> = {
  protobuf: (spans) =>
    messageField(1, [
      messageField(
        2,
        spans.map((size, index) => {
          const name = stringField(5, String(index));
          if (size === 'bad id') return messageField(2, [name, bytesField(2, Buffer.alloc(3))]);
          // An unknown field of two bytes for its tag and two for its length makes up the size.
          return messageField(2, [name, bytesField(100, Buffer.alloc(size - name.length - 4))]);
        }),
      ),
    ]),
  json: (spans) => {
    const texts = spans.map((size, index) => {
      if (size === 'bad id') return `{"name":"${index}","spanId":"1"}`;
      const span = `{"name":"${index}","x":""}`;
      return `${span.slice(0, -2)}${'é'.repeat(Math.floor((size - span.length) / 2))}${'x'.repeat((size - span.length) % 2)}"}`;
    });
    return Buffer.from(`{"resourceSpans":[{"scopeSpans":[{"spans":[ ${texts.join(' ,\n ')} ]}]}]}`);
  },
};

describe.each(['protobuf', 'json'] as const)('in %s', (encoding) => {
  const send = (spans: readonly (number | 'bad id')[], limit = LIMIT) => {
    const encoder = new BlockEncoder('hive', limit);
    const transcoded = encoder.add([REQUESTS[encoding](spans)], encoding, 'target');
    expect(encoder.rows).toBe(transcoded.accepted);
    return { ...transcoded, names: rowsInFrame(encoder.seal().frame, []).map(({ SpanName }) => SpanName) };
  };

  test('spans up to the limit are taken, a byte more is left out, and the others are stored', () => {
    expect(send([200, LIMIT, LIMIT + 1, 200, 3 * LIMIT])).toEqual({
      accepted: 3,
      rejected: 2,
      rejections: [{ reason: 'too_large', spans: 2, message: '2 spans are larger than 2 KB (SPAN_MAX_SIZE_KB).' }],
      names: ['0', '1', '3'],
    });
  });

  test('each reason is counted and explained by itself', () => {
    expect(send(['bad id', 200, LIMIT + 1, 'bad id'])).toEqual({
      accepted: 1,
      rejected: 3,
      rejections: [
        { reason: 'bad_id', spans: 2, message: expect.stringMatching(/^2 spans have an id that is not hex or has the wrong length/) },
        { reason: 'too_large', spans: 1, message: '1 span is larger than 2 KB (SPAN_MAX_SIZE_KB).' },
      ],
      names: ['1'],
    });
  });

  test('a request of nothing but spans that are too large is answered like one that is taken in part', () => {
    expect(send([LIMIT + 1])).toMatchObject({ accepted: 0, rejected: 1, names: [] });
    expect(send([LIMIT + 1, 'bad id'])).toMatchObject({ accepted: 0, rejected: 2, names: [] });
  });

  test('a request of nothing but spans with bad ids is malformed', () => {
    expect(() => send(['bad id', 'bad id'])).toThrow(MalformedRequest);
  });

  test('without a limit, a span may be as large as its request', () => {
    expect(send([200, 1000 * KB], Infinity)).toEqual({ accepted: 2, rejected: 0, names: ['0', '1'] });
  });
});
