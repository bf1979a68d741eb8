import { availableParallelism, totalmem } from 'node:os';
import { constrainedMemory } from 'node:process';

const MB = 1024 ** 2;

/** What the process takes before it holds a body, and a little more: Node, the code, what V8 has not collected yet. */
const BASE_MB = 110;

/** Most of the limit that one body may take while a worker thread transcodes it. */
const TRANSCODING_SHARE = 0.35;

/** Bytes this process may use: the cgroup's limit when there is one, else the machine's memory. */
export function memoryLimitBytes(): number {
  const constrained = constrainedMemory();
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem();
}

export interface MemoryDefaults {
  readonly MEM_BUFFER_SIZE_MB: number;
  readonly MAX_REQUEST_MB: number;
  readonly TRANSCODER_THREADS: number;
  readonly MAX_CONNECTIONS: number;
}

/** The settings that follow from the memory limit: such that no load takes more (docs/security.md has what was measured). */
export function memoryDefaults(limitBytes: number, processors = availableParallelism()): MemoryDefaults {
  const limitMb = limitBytes / MB;
  return {
    // A quarter, so that parsing, compressing and V8 itself have the rest.
    MEM_BUFFER_SIZE_MB: clamp(limitMb / 4, 16, 4096),
    MAX_REQUEST_MB: clamp((limitMb * TRANSCODING_SHARE - transcodingMb(0)) / (transcodingMb(1) - transcodingMb(0)), 1, 64),
    // A thread takes some 30 MB when it has nothing to do.
    TRANSCODER_THREADS: clamp(Math.min(processors - 1, limitMb / 512), 1, 4),
    // An idle connection takes 10 KB, one of gRPC 20, and the kernel's part of each some more.
    MAX_CONNECTIONS: clamp(limitMb * 8, 500, 10_000),
  };
}

/** Most memory that these settings take, in MB. */
export function mostMemoryMb({
  MEM_BUFFER_SIZE_MB,
  MAX_REQUEST_MB,
}: Pick<MemoryDefaults, 'MEM_BUFFER_SIZE_MB' | 'MAX_REQUEST_MB'>): number {
  return BASE_MB + MEM_BUFFER_SIZE_MB + transcodingMb(MAX_REQUEST_MB);
}

/** Most that transcoding one body takes, beside the body: `mostMemory` in transcoder.ts, which is not loaded here for its size. */
function transcodingMb(bodyMb: number): number {
  return 32 + 10 * bodyMb;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, Math.floor(value)));
}
