/*
 * The program of the embedded ClickHouse's process: ClickHouse as a library, which runs two scripts.
 *
 *   startup  SYSTEM START LISTEN HTTP; SELECT its port INTO the announcement
 *   hold     empty, but never ends: ClickHouse waits for its input, and serves, until we close our side. Then it shuts down.
 *
 * Both scripts and the announcement are pipes, which ClickHouse opens as /proc/self/fd/N. So kill -9 leaves no files behind, and a
 * second server on the same data directory can't disturb the first before it finds the directory locked.
 *
 * The process stops when the IPC channel to the parent closes, which also happens when the parent is killed.
 *
 * Before ClickHouse starts, the process gives up access to everything outside its working directory (embedded-clickhouse-sandbox.ts).
 *
 * argv: <path of libchdb.so> <"connects" if it may connect to other servers, else ""> <ClickHouse argument>…
 */
import { closeSync, read, readdirSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { DataType, isNullPointer, load, open, restorePointer, wrapPointer } from 'ffi-rs';
import { confine, libc } from './embedded-clickhouse-sandbox.ts';

/** The message to the parent when the server answers. If it never does, the reason is on stderr. */
export interface Listening {
  httpPort: number;
}

/** SIGKILL after this time, also when no parent is left to send it. */
const STOP_TIMEOUT_MS = 8_000;
/** Requests in flight when the server is stopped have this time to arrive completely. */
const STOP_GRACE_MS = 200;

const PR_SET_PDEATHSIG = 1;
const SHUT_RD = 0;
const SIGTERM = 15;
const O_CLOEXEC = 0o2000000;

const [library = '', connects = '', ...clickHouseArguments] = process.argv.slice(2);
open({ library: 'libc', path: '' });
open({ library: 'clickhouse', path: library });

// In case another process holds the parent's end of the IPC channel open.
libc('prctl', PR_SET_PDEATHSIG, SIGTERM);

// Before ClickHouse's threads are started, because it applies to this thread and those that it starts later.
confine([process.cwd()], connects !== '');

const startup = openPipe();
const hold = openPipe();
const announcement = openPipe();
let httpPort = 0;
let stopping = false;

process.on('disconnect', stop);
process.on('SIGTERM', stop);
if (!process.connected) stop();

writeSync(
  startup.write,
  `SYSTEM START LISTEN HTTP; SELECT getServerPort('http_port') INTO OUTFILE '${pathOf(announcement.write)}' APPEND FORMAT TSV;`,
);
closeSync(startup.write);
read(announcement.read, (_error, length, buffer) => {
  if (length === 0) return;
  httpPort = Number.parseInt(buffer.toString('latin1', 0, length), 10);
  if (process.connected) process.send?.({ httpPort } satisfies Listening);
});

const error = await runClickHouse([
  'clickhouse',
  ...clickHouseArguments,
  '--queries-file',
  pathOf(startup.read),
  '--queries-file',
  pathOf(hold.read),
]);
if (error !== undefined) process.stderr.write(`${error}\n`);
// A thread may still be waiting to read the announcement, and the process can't end before that thread does.
closeSync(announcement.write);
process.exit(stopping && error === undefined ? 0 : 1);

/** Ends ClickHouse's last script. As its shutdown waits for open connections, even idle ones, they are closed. */
function stop(): void {
  if (stopping) return;
  stopping = true;
  closeSync(hold.write);
  // The timers also keep the event loop alive, which ClickHouse's thread does not.
  setInterval(closeConnections, STOP_GRACE_MS);
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), STOP_TIMEOUT_MS);
}

/** Shuts down the reading side of every connection to the HTTP port. Responses in flight are still written. */
function closeConnections(): void {
  const localPort = `:${httpPort.toString(16).toUpperCase().padStart(4, '0')}`;
  const sockets = new Set<string>();
  for (const line of readFileSync('/proc/self/net/tcp', 'latin1').split('\n')) {
    const [, local = '', , , , , , , , inode] = line.trim().split(/\s+/);
    if (local.endsWith(localPort)) sockets.add(`socket:[${inode}]`);
  }
  for (const fd of readdirSync('/proc/self/fd')) {
    if (sockets.has(linkTarget(`/proc/self/fd/${fd}`))) libc('shutdown', Number(fd), SHUT_RD);
  }
}

function linkTarget(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // Closed since the directory was listed.
  }
}

/**
 * Runs ClickHouse on a thread of its own until its scripts end.
 * @returns the error if its arguments are wrong; ClickHouse prints all others itself
 */
async function runClickHouse(argv: string[]): Promise<string | undefined> {
  const result = await load({
    library: 'clickhouse',
    funcName: 'chdb_query_cmdline',
    runInNewThread: true,
    retType: DataType.External,
    paramsType: [DataType.I32, DataType.StringArray],
    paramsValue: [argv.length, argv],
  });
  const text = load({
    library: 'clickhouse',
    funcName: 'chdb_result_error',
    retType: DataType.External,
    paramsType: [DataType.External],
    paramsValue: [result],
  });
  return isNullPointer(text)
    ? undefined
    : restorePointer<DataType.String>({ retType: [DataType.String], paramsValue: wrapPointer([text]) })[0];
}

/** Opens a pipe by pipe2(2). Node's pipes are sockets, which can't be opened by path. @throws Error */
function openPipe(): { read: number; write: number } {
  const fds = Buffer.alloc(8);
  if (libc('pipe2', fds, O_CLOEXEC) !== 0) throw new Error('pipe2 failed: are there file descriptors left?');
  return { read: fds.readInt32LE(0), write: fds.readInt32LE(4) };
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}
