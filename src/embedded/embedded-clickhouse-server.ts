/*
 * The program of the embedded ClickHouse's own process: ClickHouse as a library, told to run two scripts.
 *
 *   startup  SYSTEM START LISTEN HTTP; SELECT its port INTO the announcement
 *   hold     empty, and without an end: ClickHouse reads on, and serves, until we close our side. Then it shuts down.
 *
 * Both, and the announcement, are pipes that ClickHouse opens as /proc/self/fd/N. So kill -9 leaves nothing behind to
 * clear away, and a second server that has yet to find the data directory locked can't get in the way of the first.
 *
 * It stops when the parent closes the IPC channel, which the kernel does for a parent that was killed.
 *
 * Before ClickHouse runs, the process gives up whatever lies outside its working directory (embedded-clickhouse-sandbox.ts).
 *
 * argv: <path of libchdb.so> <"connects", if it may connect to other servers; else ""> <ClickHouse argument>…
 */
import { closeSync, read, readdirSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { DataType, isNullPointer, load, open, restorePointer, wrapPointer } from 'ffi-rs';
import { confine } from './embedded-clickhouse-sandbox.ts';

/** Sent to the parent once the server answers. Until then, and if it never does, the reason is on stderr. */
export interface Listening {
  httpPort: number;
}

/** A stop that takes longer than this is ended with SIGKILL, also when there is no parent left to do it. */
const STOP_TIMEOUT_MS = 8_000;
/** Time for request bodies on their way when the server is stopped. */
const STOP_GRACE_MS = 200;

const PR_SET_PDEATHSIG = 1;
const SHUT_RD = 0;
const SIGTERM = 15;
const O_CLOEXEC = 0o2000000;

const [library = '', connects = '', ...clickHouseArguments] = process.argv.slice(2);
open({ library: 'libc', path: '' });
open({ library: 'clickhouse', path: library });

// For the case that something else holds the parent's end of the channel open.
libc('prctl', PR_SET_PDEATHSIG, SIGTERM);

// Before ClickHouse's threads are started: it holds for this one, and for all that it starts.
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
// The announcement may still be read on a thread, which has to end before the process can.
closeSync(announcement.write);
process.exit(stopping && error === undefined ? 0 : 1);

/** Ends ClickHouse's last script. Its shutdown waits for open connections, idle ones too, so those are closed. */
function stop(): void {
  if (stopping) return;
  stopping = true;
  closeSync(hold.write);
  // These also keep the event loop alive, which ClickHouse's thread does not.
  setInterval(closeConnections, STOP_GRACE_MS);
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), STOP_TIMEOUT_MS);
}

/** Lets every connection to the HTTP port read the end of its input. Answers under way are still written. */
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
    return ''; // closed since it was listed
  }
}

/** Runs ClickHouse on a thread of its own until its scripts end. Resolves with what is wrong with its arguments; other errors it prints itself. */
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

/** A pipe of the kernel's. Node's own are sockets, which can't be opened by path. */
function openPipe(): { read: number; write: number } {
  const fds = Buffer.alloc(8);
  const status = load({
    library: 'libc',
    funcName: 'pipe2',
    retType: DataType.I32,
    paramsType: [DataType.U8Array, DataType.I32],
    paramsValue: [fds, O_CLOEXEC],
  });
  if (status !== 0) throw new Error('pipe2 failed: are there file descriptors left?');
  return { read: fds.readInt32LE(0), write: fds.readInt32LE(4) };
}

function libc(name: 'prctl' | 'shutdown', ...args: [number, number]): number {
  return load({ library: 'libc', funcName: name, retType: DataType.I32, paramsType: [DataType.I32, DataType.I32], paramsValue: args });
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}
