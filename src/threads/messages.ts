import type { PacedSender } from '../batch/insert-pace.ts';
import type { TranscodedBody } from '../blocks/large-bodies.ts';
import type { FoundTarget } from '../auth/auth.service.ts';
import type { NewRefusal } from '../ingest/refusal-log.ts';
import type { Encoding } from '../otlp/encoding.ts';
import type { BlockSpan } from '../tracing/block-trace.ts';
import type { TableLimits } from '../transcode/columns/table-limits.ts';
import type { TranscodeRules } from '../transcode/columns/transcode-rules.ts';
import type { Transcoded } from '../transcode/transcoder.ts';
import type { SharedBuffers } from './shared-memory.ts';

/*
 * What the main thread and an ingest thread say to each other. A method is called with one argument and has one result (channel.ts);
 * their order is kept in each direction.
 */

/** What an ingest thread is started with. */
export interface ThreadData {
  readonly buffers: SharedBuffers;
  readonly slot: number;
  readonly limits: TableLimits;
}

/** A sealed block on its way to the queue. Its memory is moved. */
export interface PushedBlock {
  readonly number: number;
  readonly frame: Uint8Array<ArrayBuffer>;
  readonly rows: number;
  /** Of the span of the block, if it is traced. */
  readonly trace?: BlockSpan;
}

/** The headers that say whose request it is. */
export type CredentialHeaders = Readonly<Record<'authorization' | 'x-hive-target-ref', string | undefined>>;

export interface LargeBody {
  readonly chunks: readonly Uint8Array<ArrayBuffer>[];
  readonly length: number;
  readonly encoding: Encoding;
  readonly targetId: string;
  readonly rules: TranscodeRules;
}

/** The rows of a request in a block, and what was rejected or adjusted. */
export interface RequestRows extends Transcoded {
  readonly firstRow: number;
}

/** What another thread needs of an accepted request. */
export function rowsOf({ accepted, rejected, rejections, adjustments, firstRow }: RequestRows): RequestRows {
  return { accepted, rejected, rejections, adjustments, firstRow };
}

/** A request that `number` is the block of. */
export interface FirstRequest {
  readonly identity: string;
  readonly number: number;
  readonly rows: RequestRows;
}

/** The span of a request that joins an earlier one, and the number under which the main thread is asked for what becomes of it. */
export interface Joined {
  readonly rows: RequestRows;
  readonly number: number;
}

export interface LogLine {
  readonly level: 'fatal' | 'error' | 'warn' | 'log' | 'debug' | 'verbose';
  readonly message: unknown;
  readonly context: string | undefined;
}

/** What an ingest thread asks of the main thread. */
export interface MainMethods {
  /** It can listen. */
  prepared(): void;
  /** Resolves when the rows are durable. */
  push(block: PushedBlock): Promise<void>;
  countBodies(requests: readonly (readonly [bodyBytes: number, sender: PacedSender])[]): void;
  transcode(body: LargeBody): Promise<TranscodedBody>;
  authenticate(headers: CredentialHeaders): Promise<FoundTarget>;
  accepts(headers: CredentialHeaders): boolean | Promise<boolean>;
  join(identity: string): Joined | undefined;
  /** Resolves as `durable` of the request that is joined. */
  joined(number: number): Promise<void>;
  first(request: FirstRequest): void;
  refused(refusals: readonly NewRefusal[]): void;
  acknowledged(spansByTarget: ReadonlyMap<string, number>): void;
  log(line: LogLine): void;
}

/** What the main thread asks of an ingest thread. */
export interface ThreadMethods {
  /** Opens its ports. */
  listen(): Promise<void>;
  /** Pushes the open block. */
  seal(): void;
  limits(limits: TableLimits): void;
  /** Ends all connections after their next answers: another thread has started, and is to get its share of them. */
  endConnections(): void;
  /** Whether it ends each connection with its first answer: the others are enough. */
  standby(isStandby: boolean): void;
  /** Lets the kernel assign new connections to these sockets of its ports (steerConnections). */
  steer(places: readonly number[]): void;
  /** Lets no request in from now on. Resolves when all have their answers. */
  close(): Promise<void>;
  /** Refuses what has no answer, and closes the ports. */
  stop(): Promise<void>;
}
