/*
 * A `clickhouse` as one may stand on the PATH: `clickhouse server --config-file=FILE`. Behind it is the embedded ClickHouse, which reads
 * the same configuration; only that it needs a user for itself, which a server doesn't.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ITSELF =
  '<clickhouse><users><default><password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>' +
  '<grants><query>GRANT SYSTEM LISTEN ON *.*</query></grants></default></users></clickhouse>';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { 'config-file': { type: 'string', default: '' } } });
if (positionals.join(' ') !== 'server') throw new Error(`Not expected: ${positionals.join(' ')}`);
const folder = dirname(values['config-file']);
mkdirSync(join(folder, 'users.d'), { recursive: true });
writeFileSync(join(folder, 'users.d', 'itself.xml'), ITSELF);
const library = createRequire(import.meta.url).resolve('@chdb/lib-linux-x64-gnu/libchdb.so');
const server = fork(
  fileURLToPath(new URL('../../../src/embedded/embedded-clickhouse-server.ts', import.meta.url)),
  [library, '', `--path=${folder}`, '--config-file=config.xml', '--log-level=warning'],
  { cwd: folder },
);
process.on('SIGTERM', () => server.disconnect());
const [code] = (await once(server, 'exit')) as [number | null];
process.exitCode = code ?? 1;
