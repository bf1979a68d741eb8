import { closeSync, constants, openSync } from 'node:fs';
import { DataType, load } from 'ffi-rs';

/*
 * Confines the process of the embedded ClickHouse to its data directory, with Landlock of the Linux kernel.
 *
 * As a library, ClickHouse accepts paths of local files, as clickhouse-local does. Grants can forbid table functions and engines, but
 * neither the function file() nor INSERT … FROM INFILE, which read any file that the user who started the process can read.
 *
 * https://docs.kernel.org/userspace-api/landlock.html; constants from include/uapi/linux/landlock.h and prctl.h
 */

const SYS_LANDLOCK_CREATE_RULESET = 444;
const SYS_LANDLOCK_ADD_RULE = 445;
const SYS_LANDLOCK_RESTRICT_SELF = 446;
const CREATE_RULESET_VERSION = 1;
const RULE_PATH_BENEATH = 1;
const PR_SET_NO_NEW_PRIVS = 38;
const O_PATH = 0o10000000;

const WRITE_FILE = 1 << 1;
const READ_FILE = 1 << 2;
const READ_DIR = 1 << 3;
const READ = READ_FILE | READ_DIR;
/** All access rights to files and directories in version 3: execute, write, read, remove, make, move, truncate. */
const ALL = (1 << 15) - 1;
const EXECUTE = 1;
const CONNECT_TCP = 1 << 1;

/** The first version that can allow moving files between directories, and truncating them: Linux 6.2. */
const MIN_VERSION = 3;
/** The first version that can restrict TCP connections: Linux 6.7. */
const MIN_VERSION_OF_NETWORK = 4;

/** What ClickHouse and Node read: processors and memory of the machine, time zone, host names, libraries. */
const READABLE: readonly string[] = [
  '/proc',
  '/sys',
  '/dev/urandom',
  '/dev/random',
  '/etc/localtime',
  '/etc/timezone',
  '/usr/share/zoneinfo',
  '/etc/hosts',
  '/etc/resolv.conf',
  '/etc/nsswitch.conf',
  '/lib',
  '/lib64',
  '/usr/lib',
];

/**
 * Denies the calling thread, and all threads and processes that it starts later, access to everything outside these directories: files,
 * programs and, if `connects` is false, outgoing TCP connections. This can't be undone.
 * @returns false if the kernel has no Landlock or too old a version: then nothing is denied
 * @throws Error when the kernel refuses
 */
export function confine(writableDirs: readonly string[], connects: boolean): boolean {
  const version = libc('syscall', SYS_LANDLOCK_CREATE_RULESET, null, 0, CREATE_RULESET_VERSION);
  if (version < MIN_VERSION) return false;

  const knowsNetwork = version >= MIN_VERSION_OF_NETWORK;
  // struct landlock_ruleset_attr { u64 handled_access_fs, handled_access_net }
  const attributes = Buffer.alloc(knowsNetwork ? 16 : 8);
  attributes.writeBigUInt64LE(BigInt(ALL), 0);
  if (knowsNetwork) attributes.writeBigUInt64LE(BigInt(connects ? 0 : CONNECT_TCP), 8);
  const ruleset = checked(libc('syscall', SYS_LANDLOCK_CREATE_RULESET, attributes, attributes.length, 0));
  for (const path of READABLE) allow(ruleset, path, READ);
  allow(ruleset, '/dev/null', READ_FILE | WRITE_FILE);
  for (const path of writableDirs) allow(ruleset, path, ALL & ~EXECUTE);

  checked(libc('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  checked(libc('syscall', SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0));
  closeSync(ruleset);
  return true;
}

/** Allows access to a path and everything below it. A path that does not exist is skipped. */
function allow(ruleset: number, path: string, access: number): void {
  let fd: number;
  try {
    fd = openSync(path, O_PATH | constants.O_RDONLY);
  } catch {
    return;
  }
  // struct landlock_path_beneath_attr { u64 allowed_access; s32 parent_fd }
  const rule = Buffer.alloc(12);
  rule.writeInt32LE(fd, 8);
  // The kernel refuses rights for directories in a rule for a file.
  for (const allowed of [access, access & ~READ_DIR]) {
    rule.writeBigUInt64LE(BigInt(allowed), 0);
    if (libc('syscall', SYS_LANDLOCK_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0) === 0) return closeSync(fd);
  }
  throw new Error(`Landlock refuses a rule for ${path}.`);
}

function checked(result: number): number {
  if (result < 0) throw new Error('Landlock is there, but refuses to confine the embedded ClickHouse.');
  return result;
}

/** Calls a function of libc that returns an int: negative for an error. `open` of ffi-rs must have loaded the library 'libc'. */
export function libc(name: string, ...args: (number | Buffer | null)[]): number {
  return load({
    library: 'libc',
    funcName: name,
    retType: DataType.I32,
    paramsType: args.map((arg) => (arg instanceof Buffer ? DataType.U8Array : DataType.I64)),
    paramsValue: args.map((arg) => arg ?? 0),
  });
}
