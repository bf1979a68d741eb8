import { availableParallelism, totalmem } from 'node:os';
import { constrainedMemory } from 'node:process';
import { hasReusePort } from './reuse-port.ts';

const MB = 1024 ** 2;

/** Memory of the process without any body, rounded up: Node, the code, garbage that V8 has not collected. */
const BASE_MB = 110;

/** Largest fraction of the limit that one body may take while a worker thread transcodes it. */
const TRANSCODING_SHARE = 0.35;

/** The memory limit of this process in bytes: the cgroup's limit if there is one, otherwise the machine's memory. */
export function memoryLimitBytes(): number {
  const constrained = constrainedMemory();
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem();
}

/** With fewer processors, one thread serves all requests: the others are needed for inserts, V8 and libuv. */
const LEAST_PROCESSORS = 4;

/** Memory that an ingest thread takes, rounded up. */
const THREAD_MB = 45;

/** The settings whose defaults depend on the memory limit. */
export interface MemoryDefaults {
  readonly MEM_BUFFER_SIZE_MB: number;
  readonly MAX_REQUEST_MB: number;
  readonly TRANSCODER_THREADS: number;
  readonly INGEST_THREADS: number;
  readonly MAX_CONNECTIONS: number;
}

/** The defaults for a memory limit: no load exceeds it with them (measured in docs/security.md). */
export function memoryDefaults(limitBytes: number, processors = availableParallelism(), platform = process.platform): MemoryDefaults {
  const limitMb = limitBytes / MB;
  return {
    // A quarter: the rest is for parsing, compression and V8.
    MEM_BUFFER_SIZE_MB: clamp(limitMb / 4, 16, 4096),
    MAX_REQUEST_MB: clamp((limitMb * TRANSCODING_SHARE - transcodingMb(0)) / (transcodingMb(1) - transcodingMb(0)), 1, 64),
    // An idle thread takes some 30 MB.
    TRANSCODER_THREADS: clamp(Math.min(processors - 1, limitMb / 512), 1, 4),
    INGEST_THREADS: processors < LEAST_PROCESSORS || !hasReusePort(platform) ? 1 : clamp(Math.min(processors - 1, limitMb / 512), 1, 8),
    // An idle connection takes 10 KB, with gRPC 20 KB, and some more in the kernel.
    MAX_CONNECTIONS: clamp(limitMb * 8, 500, 10_000),
  };
}

/** The most memory that the process takes with these settings, in MB. */
export function mostMemoryMb({
  MEM_BUFFER_SIZE_MB,
  MAX_REQUEST_MB,
  INGEST_THREADS,
}: Pick<MemoryDefaults, 'MEM_BUFFER_SIZE_MB' | 'MAX_REQUEST_MB' | 'INGEST_THREADS'>): number {
  const threadsMb = INGEST_THREADS === 1 ? 0 : INGEST_THREADS * THREAD_MB;
  return BASE_MB + threadsMb + MEM_BUFFER_SIZE_MB + transcodingMb(MAX_REQUEST_MB);
}

/** The most memory that transcoding a body takes, without the body: `mostMemory` in transcoder.ts, which is too large to import here. */
function transcodingMb(bodyMb: number): number {
  return 32 + 10 * bodyMb;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, Math.floor(value)));
}
