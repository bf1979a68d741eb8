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
 * The messages between the main thread and an ingest thread. Each method has one argument and one result (channel.ts). In each
 * direction, calls arrive in the order in which they were sent.
 */

/** The start data of an ingest thread. */
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
  /** The span of the block, if it is traced. */
  readonly trace?: BlockSpan;
}

/** The two headers that identify the sender and its target. */
export type CredentialHeaders = Readonly<Record<'authorization' | 'x-hive-target-ref', string | undefined>>;

/** A body that the main thread passes to a transcoder thread. Its memory is moved. */
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

/** The rows of an accepted request, without the parts that can't be sent to another thread. */
export function rowsOf({ accepted, rejected, rejections, adjustments, firstRow }: RequestRows): RequestRows {
  return { accepted, rejected, rejections, adjustments, firstRow };
}

/** The first request with this identity, and the number of the block that holds its spans (`PushedBlock.number`). */
export interface FirstRequest {
  readonly identity: string;
  readonly number: number;
  readonly rows: RequestRows;
}

/** The rows of the earlier request that a repeated one joins. `MainMethods.joined` with `number` waits for their outcome. */
export interface Joined {
  readonly rows: RequestRows;
  readonly number: number;
}

export interface LogLine {
  readonly level: 'fatal' | 'error' | 'warn' | 'log' | 'debug' | 'verbose';
  readonly message: unknown;
  readonly context: string | undefined;
}

/** The methods of the main thread that ingest threads call. */
export interface MainMethods {
  /** Reports that the thread can listen on its ports. */
  prepared(): void;
  /** Resolves when the rows are durable. */
  push(block: PushedBlock): Promise<void>;
  /** Reports bodies that have been read, as `InsertPace.countBody` does. */
  countBodies(requests: readonly (readonly [bodyBytes: number, sender: PacedSender])[]): void;
  /** Transcodes a large body in a worker thread. Rejects with MalformedRequest or a Refusal 503. */
  transcode(body: LargeBody): Promise<TranscodedBody>;
  /** Finds the target of a request, as `AuthService.find` does. */
  authenticate(headers: CredentialHeaders): Promise<FoundTarget>;
  /** Whether the credentials of a request are accepted, as `AuthService.accepts` finds out. */
  accepts(headers: CredentialHeaders): boolean | Promise<boolean>;
  /** Finds an earlier request with this identity whose spans may not be stored yet (`EarlierRequests.join`). */
  join(identity: string): Joined | undefined;
  /** Resolves or rejects as the earlier request does. @param number `Joined.number` */
  joined(number: number): Promise<void>;
  /** Reports the first request with an identity (`EarlierRequests.add`). */
  first(request: FirstRequest): void;
  refused(refusals: readonly NewRefusal[]): void;
  acknowledged(spansByTarget: ReadonlyMap<string, number>): void;
  log(line: LogLine): void;
}

/** The methods of an ingest thread that the main thread calls. */
export interface ThreadMethods {
  /** Opens its ports. */
  listen(): Promise<void>;
  /** Pushes the open block. */
  seal(): void;
  limits(limits: TableLimits): void;
  /** Ends the open connections soon, so that senders connect again and other threads get a share of the connections. */
  endConnections(): void;
  /** Sets standby: the open connections end soon, and new ones with their first answer. */
  standby(isStandby: boolean): void;
  /** Lets the kernel assign new connections to these sockets of its ports (steerConnections). */
  steer(sockets: readonly number[]): void;
  /** Admits no further requests. Resolves when all requests in flight are answered. */
  close(): Promise<void>;
  /** Refuses all requests that are not answered yet, and closes the ports. */
  stop(): Promise<void>;
}
