/*
 * The process between local mode and a `clickhouse` from the PATH. It runs `clickhouse server`, and stops it when the IPC channel to
 * the parent closes, which also happens when the parent is killed.
 *
 * argv: <path of clickhouse> <argument of clickhouse>…
 */
import { spawn } from 'node:child_process';

/** The message to the parent when the server's process has started. The server may not answer yet. */
export interface Spawned {
  pid: number;
}

/** SIGKILL after this time, also when no parent is left to send it. */
const STOP_TIMEOUT_MS = 8_000;

const [program = '', ...programArguments] = process.argv.slice(2);
// With the watchdog, the server would be a child of the process that is started.
const server = spawn(program, programArguments, { stdio: 'inherit', env: { ...process.env, CLICKHOUSE_WATCHDOG_ENABLE: '0' } });
let stopping = false;

server.once('spawn', () => process.send?.({ pid: server.pid ?? 0 } satisfies Spawned));
server.once('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
server.once('exit', (code, signal) => {
  if (signal !== null) process.stderr.write(`ClickHouse was ended by ${signal}\n`);
  process.exit(stopping && signal === null ? 0 : (code ?? 1));
});
process.on('disconnect', stop);
process.on('SIGTERM', stop);
if (!process.connected) stop();

function stop(): void {
  if (stopping) return;
  stopping = true;
  server.kill('SIGTERM');
  setTimeout(() => server.kill('SIGKILL'), STOP_TIMEOUT_MS);
}
