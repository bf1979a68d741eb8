import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BODIES, requestBytes, type LoadOptions, type LoadResult } from './load.ts';
import { ownCpuSeconds } from './process-usage.ts';

/*
 * A load generator that takes half the CPU of load.ts, or less: it makes the system calls of Linux directly, without Node's sockets, and
 * the kernel sends large bodies from its page cache (sendfile). Each connection sends its next request after an answer, which must be 200.
 * Needs koffi, as the disk buffer does. `node bench/raw-load.ts '{"port":4318,…}'` prints one JSON object.
 */

const { load, struct, errno, sizeof } = createRequire(import.meta.url)('koffi') as typeof import('koffi');
const libc = load(null);
const call = (declaration: string) => libc.func(declaration) as (...values: unknown[]) => number;
struct('sockaddr_in', { family: 'uint16_t', port: 'uint16_t', address: 'uint32_t', zero: 'uint64_t' });
const socket = call('int socket(int domain, int type, int protocol)');
const connect = call('int connect(int fd, const sockaddr_in* address, uint32_t length)');
const setsockopt = call('int setsockopt(int fd, int level, int name, const int* value, uint32_t length)');
const fcntl = call('int fcntl(int fd, int command, int value)');
const epollCreate = call('int epoll_create1(int flags)');
const epollCtl = call('int epoll_ctl(int epoll, int operation, int fd, void* event)');
const epollWait = call('int epoll_wait(int epoll, void* events, int most, int timeout)');
const recv = call('int64_t recv(int fd, void* bytes, size_t length, int flags)');
const send = call('int64_t send(int fd, const void* bytes, size_t length, int flags)');
const sendfile = call('int64_t sendfile(int out, int in, int64_t* offset, size_t length)');

const [AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_NODELAY] = [2, 1, 6, 1];
const [F_SETFL, O_NONBLOCK, EAGAIN] = [4, 0o4000, 11];
const [EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT] = [1, 3, 1, 4];
const MOST_EVENTS = 256;
/** Smaller requests cost less with send, which copies them. */
const LEAST_SENDFILE_BYTES = 65_536;
/** struct epoll_event: packed on x86-64 only. */
const DATA_AT = process.arch === 'x64' ? 4 : 8;
const EVENT_BYTES = DATA_AT + 8;

/** A connection, and the request that it sends. */
interface Sender {
  readonly fd: number;
  /** The index of the request. */
  request: number;
  /** Bytes of the request that sendfile has sent. */
  readonly offset: BigInt64Array;
  /** Whether the kernel's buffer is full. */
  waitsForRoom: boolean;
}

function run(options: LoadOptions, dir: string): LoadResult {
  const requests = Array.from({ length: BODIES }, (_, index) => requestBytes(options, index));
  const files = requests.map((bytes, index) => {
    writeFileSync(join(dir, String(index)), bytes);
    return openSync(join(dir, String(index)), 'r');
  });
  const epoll = checked(epollCreate(0));
  const senders = new Map<number, Sender>();
  const event = Buffer.alloc(EVENT_BYTES);
  let sent = 0;
  let acknowledged = 0;
  let open = 0;

  function watch(operation: number, fd: number, events: number): void {
    event.writeUInt32LE(events, 0);
    event.writeInt32LE(fd, DATA_AT);
    checked(epollCtl(epoll, operation, fd, event));
  }

  function begin(sender: Sender): void {
    sender.request = sent++ % BODIES;
    sender.offset[0] = 0n;
    sendMore(sender);
  }

  function sendMore(sender: Sender): void {
    const { fd, offset, request } = sender;
    const { length } = requests[request];
    for (;;) {
      const left = length - Number(offset[0]);
      if (left === 0) break;
      if (length < LEAST_SENDFILE_BYTES && left === length) {
        if (send(fd, requests[request], length, 0) === length) break;
        throw new Error(`send: errno ${errno()}`);
      }
      if (sendfile(fd, files[request], offset, left) >= 0) continue;
      if (errno() !== EAGAIN) throw new Error(`sendfile: errno ${errno()}`);
      if (!sender.waitsForRoom) watch(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT);
      sender.waitsForRoom = true;
      return;
    }
    if (sender.waitsForRoom) watch(EPOLL_CTL_MOD, fd, EPOLLIN);
    sender.waitsForRoom = false;
  }

  const address = { family: AF_INET, port: ((options.port & 0xff) << 8) | (options.port >> 8), address: 0x0100007f, zero: 0 };
  for (let at = 0; at < options.connections; at++) {
    const fd = checked(socket(AF_INET, SOCK_STREAM, 0));
    checked(connect(fd, address, sizeof('sockaddr_in')));
    checked(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, [1], 4));
    checked(fcntl(fd, F_SETFL, O_NONBLOCK));
    senders.set(fd, { fd, request: 0, offset: new BigInt64Array(1), waitsForRoom: false });
    watch(EPOLL_CTL_ADD, fd, EPOLLIN);
  }

  const events = Buffer.alloc(MOST_EVENTS * EVENT_BYTES);
  const answer = Buffer.alloc(4096);
  const beginMs = performance.now();
  const usedBefore = ownCpuSeconds();
  const endMs = beginMs + options.seconds * 1000;
  for (const sender of senders.values()) {
    open++;
    begin(sender);
  }
  while (open > 0) {
    const ready = checked(epollWait(epoll, events, MOST_EVENTS, 1000));
    const isOver = performance.now() > endMs;
    for (let at = 0; at < ready; at++) {
      const sender = senders.get(events.readInt32LE(at * EVENT_BYTES + DATA_AT))!;
      const kinds = events.readUInt32LE(at * EVENT_BYTES);
      if ((kinds & EPOLLOUT) !== 0) sendMore(sender);
      if ((kinds & EPOLLIN) === 0) continue;
      const length = checked(recv(sender.fd, answer, answer.length, 0));
      const status = answer.toString('latin1', 0, Math.min(length, 12));
      if (status !== 'HTTP/1.1 200') throw new Error(`answered ${answer.toString('latin1', 0, length)}`);
      acknowledged++;
      if (isOver) open--;
      else begin(sender);
    }
  }
  return {
    requests: acknowledged,
    acknowledgedSpans: acknowledged * options.spansPerRequest,
    refused: 0,
    seconds: (performance.now() - beginMs) / 1000,
    p50Ms: Number.NaN,
    p99Ms: Number.NaN,
    cpuSeconds: ownCpuSeconds() - usedBefore,
  };
}

/** The result of a system call. @throws Error with the errno when it failed */
function checked(result: number): number {
  if (result < 0) throw new Error(`A system call failed with errno ${errno()}.`);
  return result;
}

const dir = mkdtempSync(join(tmpdir(), 'raw-load-'));
try {
  process.stdout.write(`${JSON.stringify(run(JSON.parse(process.argv[2]) as LoadOptions, dir))}\n`);
} finally {
  rmSync(dir, { recursive: true });
}
