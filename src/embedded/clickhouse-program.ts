/*
 * The process between local mode and a `clickhouse` from the PATH. It runs `clickhouse server`, and stops it when the parent closes
 * the IPC channel, which the kernel does for a parent that was killed.
 *
 * argv: <path of clickhouse> <argument of clickhouse>…
 */
import { spawn } from 'node:child_process';

/** Sent to the parent once the server's process is there, which need not answer yet. */
export interface Spawned {
  pid: number;
}

/** A stop that takes longer than this is ended with SIGKILL, also when there is no parent left to do it. */
const STOP_TIMEOUT_MS = 8_000;

const [program = '', ...programArguments] = process.argv.slice(2);
// Without the watchdog, the process that is started is the server.
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
