import type { Server } from 'node:net';
import { isOff, reportFailed, reportMissing } from './internals.ts';
import { findFunction, loadKoffi } from './koffi.ts';

const SOL_SOCKET = 1;
const SO_ATTACH_REUSEPORT_CBPF = 51;

/* Instructions of classic BPF (linux/bpf_common.h, linux/filter.h). A is its only register. */
/** A = the word at an offset. The special offset RANDOM gives a random number instead. */
const LOAD = 0x20;
const RANDOM = 0xffff_f038;
/** A = A mod k */
const MODULO = 0x94;
/** Skips `otherwise` instructions unless A is k. */
const UNLESS_EQUAL = 0x15;
const RETURN = 0x06;

interface Instruction {
  readonly code: number;
  readonly otherwise?: number;
  readonly k: number;
}
const INSTRUCTION_BYTES = 8;
/** struct sock_fprog */
const PROGRAM_BYTES = 16;

type SetSocketOption = (fd: number, level: number, option: number, value: Buffer, bytes: number) => number;

/** Whether several threads can listen on one port, and the kernel spreads the connections (SO_REUSEPORT). */
export function hasReusePort(platform = process.platform): boolean {
  return platform === 'linux';
}

let setSocketOption: SetSocketOption | undefined;

/** Looks up what `steerConnections` needs. @returns whether the kernel can be asked; it may refuse */
export function canSteer(): boolean {
  if (isOff('port-steering')) return false;
  const declaration = 'int setsockopt(int fd, int level, int option, void* value, uint32_t bytes)';
  setSocketOption ??= findFunction(declaration) as SetSocketOption | undefined;
  if (setSocketOption === undefined) reportMissing('port-steering');
  return setSocketOption !== undefined;
}

/**
 * Makes the kernel assign new connections to some of the sockets that listen on a port, at random (SO_ATTACH_REUSEPORT_CBPF, socket(7)).
 * Connections that wait to be accepted stay where they are. Fallback, without koffi or on a kernel that refuses it: it spreads them over
 * all sockets, and connections of threads on standby end with their first answer.
 * @param server one of these sockets
 * @param sockets numbers of the sockets, in the order in which they began to listen. When one is closed, the last one gets its number
 */
export function steerConnections(server: Server, sockets: readonly number[]): void {
  if (!canSteer()) return;
  try {
    const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle;
    const code = assemble(select(sockets));
    const program = Buffer.alloc(PROGRAM_BYTES);
    program.writeUInt16LE(code.length / INSTRUCTION_BYTES);
    program.writeBigUInt64LE(loadKoffi().address(code), PROGRAM_BYTES - 8);
    if (setSocketOption!(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program, PROGRAM_BYTES) === 0) return;
  } catch {
    // Another version of Node has no such field.
  }
  reportFailed('port-steering');
}

/** The program that returns one of the sockets' numbers, at random. */
function select(sockets: readonly number[]): readonly Instruction[] {
  return [
    { code: LOAD, k: RANDOM },
    { code: MODULO, k: sockets.length },
    ...sockets.flatMap((socket, k) => [
      { code: UNLESS_EQUAL, k, otherwise: 1 },
      { code: RETURN, k: socket },
    ]),
    { code: RETURN, k: sockets[0] },
  ];
}

function assemble(instructions: readonly Instruction[]): Buffer {
  const code = Buffer.alloc(INSTRUCTION_BYTES * instructions.length);
  for (const [index, { code: operation, otherwise = 0, k }] of instructions.entries()) {
    const at = INSTRUCTION_BYTES * index;
    code.writeUInt16LE(operation, at);
    code.writeUInt8(otherwise, at + 3);
    code.writeUInt32LE(k, at + 4);
  }
  return code;
}
