/*
 * A program that a test puts on the PATH as `clickhouse`: `clickhouse server --config-file=FILE`. It runs the embedded ClickHouse with the
 * same configuration. Unlike a real server, that needs a user to start.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const STARTING_USER =
  '<clickhouse><users><default><password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>' +
  '<grants><query>GRANT SYSTEM LISTEN ON *.*</query></grants></default></users></clickhouse>';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { 'config-file': { type: 'string', default: '' } } });
if (positionals.join(' ') !== 'server') throw new Error(`Not expected: ${positionals.join(' ')}`);
const folder = dirname(values['config-file']);
mkdirSync(join(folder, 'users.d'), { recursive: true });
writeFileSync(join(folder, 'users.d', 'itself.xml'), STARTING_USER);
const library = createRequire(import.meta.url).resolve('@chdb/lib-linux-x64-gnu/libchdb.so');
const server = fork(
  fileURLToPath(new URL('../../../src/embedded/embedded-clickhouse-server.ts', import.meta.url)),
  [library, '', `--path=${folder}`, '--config-file=config.xml', '--log-level=warning'],
  { cwd: folder },
);
process.on('SIGTERM', () => server.disconnect());
const [code] = (await once(server, 'exit')) as [number | null];
process.exitCode = code ?? 1;
