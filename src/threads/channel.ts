import { collectorFailed, Refusal, type RefusalStatus } from '../otlp/refusal.ts';
import { RowsRefused } from '../queue/rows-refused.ts';
import { MalformedRequest } from '../transcode/bytes/malformed-request.ts';
import type { RowRange } from '../transcode/native/native-rows.ts';

/** One end of a channel between two threads: a Worker, or `parentPort`. */
interface Port {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
}

type Methods = { [name: string]: (argument: never) => unknown };
type Argument<M> = M extends (argument: infer A) => unknown ? A : never;
type Result<M> = M extends (argument: never) => infer R ? Awaited<R> : never;

export type Packet =
  | { readonly call: number; readonly name: string; readonly argument: unknown }
  | { readonly tell: string; readonly argument: unknown }
  | { readonly reply: number; readonly value: unknown }
  | { readonly failed: number; readonly reason: Reason };

/** An error, as far as the other side needs it. */
interface Reason {
  readonly kind: 'refusal' | 'rows' | 'malformed' | 'other';
  readonly name?: string;
  readonly message: string;
  readonly status?: RefusalStatus;
  readonly retryAfterSeconds?: number;
  readonly ranges?: readonly RowRange[];
}

/**
 * Calls methods of another thread, and answers its calls. All calls and answers of one iteration of the event loop are one message:
 * a message costs both sides some microseconds, and a wake-up.
 */
export class Channel<Theirs extends object, Ours extends object> {
  private readonly port: Port;
  /** Called before each message: the packet that it returns is sent before all others. */
  firstPacket: () => Packet | undefined = () => undefined;
  private methods: Methods = {};
  private readonly waiting = new Map<number, PromiseWithResolvers<unknown>>();
  private lastCall = 0;
  private packets: Packet[] = [];
  private transfer: ArrayBuffer[] = [];
  private isWoken = false;
  private isClosed = false;

  constructor(port: Port) {
    this.port = port;
  }

  /** @param methods those that the other side may call */
  answerWith(methods: Ours): void {
    this.methods = methods as unknown as Methods;
  }

  /**
   * Calls a method. Rejects with the error that it throws: a Refusal or MalformedRequest stays one.
   * @param transfer memory in `argument` that is moved, not copied
   */
  call<Name extends keyof Theirs & string>(
    name: Name,
    argument: Argument<Theirs[Name]>,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<Result<Theirs[Name]>> {
    const call = ++this.lastCall;
    const answer = Promise.withResolvers<unknown>();
    if (this.isClosed) answer.reject(collectorFailed());
    else this.waiting.set(call, answer);
    this.post({ call, name, argument }, transfer);
    return answer.promise as Promise<Result<Theirs[Name]>>;
  }

  /** Calls a method whose result is not waited for. */
  tell<Name extends keyof Theirs & string>(name: Name, argument: Argument<Theirs[Name]>): void {
    this.post({ tell: name, argument });
  }

  /** Handles the packets of a message from the other thread. */
  receive(packets: readonly Packet[]): void {
    for (const packet of packets) this.handle(packet);
  }

  /** Called when the other thread has ended: all calls that wait for its answer reject with a Refusal 500. */
  close(): void {
    this.isClosed = true;
    for (const { reject } of this.waiting.values()) reject(collectorFailed());
    this.waiting.clear();
  }

  /** Sends the queued packets at the end of this iteration of the event loop. */
  wake(): void {
    if (!this.isWoken) setImmediate(() => this.flush());
    this.isWoken = true;
  }

  /** Sends the queued packets now, as one message. */
  flush(): void {
    const { packets, transfer } = this;
    this.isWoken = false;
    this.packets = [];
    this.transfer = [];
    const first = this.firstPacket();
    if (first !== undefined) packets.unshift(first);
    if (packets.length > 0) this.port.postMessage(packets, transfer);
  }

  private handle(packet: Packet): void {
    if ('call' in packet) {
      void this.answer(packet.call, packet.name, packet.argument);
    } else if ('tell' in packet) {
      this.methods[packet.tell](packet.argument as never);
    } else {
      const id = 'reply' in packet ? packet.reply : packet.failed;
      const answer = this.waiting.get(id);
      this.waiting.delete(id);
      if ('reply' in packet) answer?.resolve(packet.value);
      else answer?.reject(errorOf(packet.reason));
    }
  }

  private async answer(call: number, name: string, argument: unknown): Promise<void> {
    try {
      const value = await this.methods[name](argument as never);
      this.post({ reply: call, value }, memoryOf(value));
    } catch (error) {
      this.post({ failed: call, reason: reasonOf(error) });
    }
  }

  private post(packet: Packet, transfer: readonly ArrayBuffer[] = []): void {
    if (this.isClosed) return;
    this.packets.push(packet);
    this.wake();
    this.transfer.push(...transfer);
  }
}

/** The memory of a result that is moved: the frame of a block. */
function memoryOf(value: unknown): readonly ArrayBuffer[] {
  if (typeof value !== 'object' || value === null || !('frame' in value)) return [];
  return [(value.frame as Uint8Array<ArrayBuffer>).buffer];
}

function reasonOf(error: unknown): Reason {
  const { message } = error as Error;
  if (error instanceof RowsRefused) return { kind: 'rows', message, ranges: error.ranges };
  if (error instanceof Refusal) return { kind: 'refusal', message, status: error.status, retryAfterSeconds: error.retryAfterSeconds };
  return { kind: error instanceof MalformedRequest ? 'malformed' : 'other', message, name: (error as Error).name };
}

function errorOf({ kind, name, message, status, retryAfterSeconds, ranges }: Reason): Error {
  if (kind === 'rows') return new RowsRefused(ranges!);
  if (kind === 'refusal') return new Refusal(status!, message, retryAfterSeconds);
  return kind === 'malformed' ? new MalformedRequest(message) : Object.assign(new Error(message), { name });
}
