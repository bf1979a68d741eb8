import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { startCollector } from '../support/servers/collector.ts';
import { run } from '../support/servers/run.ts';

/** Where the packages of the project are found. */
const FOLDER = fileURLToPath(new URL('../../node_modules/.cache/readme/', import.meta.url));

test('the JavaScript of the README ends, and its span is stored', async () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const [, script] = /```js\n([^]*?)```/.exec(readme) ?? [];
  await using clickhouse = await startClickHouse();
  await using collector = await startCollector({ clickhouse });
  mkdirSync(FOLDER, { recursive: true });
  const path = `${FOLDER}snippet-${process.pid}.mjs`;
  writeFileSync(path, script.replace('http://127.0.0.1:4318', collector.url));
  expect(await run(process.execPath, [path], { TOKEN: 'token' })).toEqual({ status: 0, stdout: '', stderr: '' });

  const stored = await clickhouse.query(
    "SELECT ServiceName AS service, SpanName AS span, SpanAttributes['hive.target_id'] AS target FROM otel_traces",
  );
  expect(stored).toEqual([{ service: 'my-gateway', span: 'my first span', target: 'my-org/my-project/my-target' }]);
});
