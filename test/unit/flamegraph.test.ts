import { DOMParser } from '@xmldom/xmldom';
import { expect, test } from 'vitest';
import { flamegraph } from '../../src/debug/flamegraph.ts';
import { shortened } from '../../src/debug/flamegraph-script.ts';

test.each([
  [200, 'ingest/open-block.add'],
  [120, 'open-block.add'],
  [40, 'add'],
  [25, ''],
])('in %i px, a name is shown as "%s"', (width, expected) => {
  expect(shortened('ingest/open-block.add', width)).toBe(expected);
});

test('a name that is longer in every form is cut at its end', () => {
  expect(shortened('transcode/json-transcoder.attributeValue', 60)).toBe('attrib…');
});

test('what a name holds is text in the picture', () => {
  const name = '</title><script>alert("1")</script>]]>&\u0000';
  const stack = [{ name, file: 'src/"a".ts', startLine: 1, line: 1 }];
  const svg = flamegraph({
    kind: { amount: 'cpu', unit: 'nanoseconds' },
    threads: [{ thread: 'main', stacks: [{ stack, amount: 1e6, samples: 1 }] }],
    startedAtMs: 0,
    tookMs: 1_000,
    period: 1e6,
  });
  // Of a U+FFFD, which stands for what XML can't hold, it warns. It throws at what is not well-formed.
  const document = new DOMParser({ onError: (level, message) => level === 'warning' || expect.unreachable(message) }).parseFromString(
    svg,
    'image/svg+xml',
  );
  expect(document.getElementsByTagName('script')).toHaveLength(1);
  expect(Array.from(document.getElementsByTagName('g'), (box) => box.getAttribute('data-name'))).toEqual([
    'all',
    'main',
    name.replace('\u0000', '\u{FFFD}'),
  ]);
});
