import { Inject, Injectable } from '@nestjs/common';
import type { Body } from '../bodies/request-body.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { BlockOutcome } from '../queue/block-outcome.ts';
import { BlockSink } from '../queue/block-queue.ts';
import type { QueuedBlock } from '../queue/block.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { RequestCounts } from '../telemetry/request-counts.ts';
import type { RequestTrace } from '../tracing/request-trace.ts';
import { BlockEncoder } from '../transcode/block-encoder.ts';
import { CurrentTableLimits, type TableLimits } from '../transcode/columns/table-limits.ts';
import type { TranscodeRules } from '../transcode/columns/transcode-rules.ts';
import { OpenBlock, type Accepted } from './open-block.ts';
import { TranscodeScheduler } from './transcode-scheduler.ts';
import { LargeBodies, maxSpanBytes } from './large-bodies.ts';

/** Smaller bodies are transcoded when the block is sealed. Their answers wait for that in any case. */
const SMALL_BYTES = 64 * 1024;

/** Turns request bodies into queued blocks: small ones together, on the main thread; large ones each in a worker thread. */
@Injectable()
export class TranscoderPool {
  private readonly inlineBytes: number;
  private readonly largeBytes: number;
  private readonly smallBytes: number;
  private readonly scheduler = new TranscodeScheduler();
  private encoder: BlockEncoder;
  private readonly open: OpenBlock;
  private readonly queue: BlockSink;
  private readonly table: CurrentTableLimits;
  private readonly maxSpanAgeMs: number;
  /** The limits that `rules` were made from. */
  private limits: TableLimits;
  private rules: TranscodeRules;

  constructor(
    @Inject(collectorConfig.KEY) config: Config,
    queue: BlockSink,
    table: CurrentTableLimits,
    pressure: MemoryPressure,
    private readonly largeBodies: LargeBodies,
    private readonly counts: RequestCounts,
  ) {
    this.inlineBytes = config.TRANSCODER_THREADS === 0 ? Number.POSITIVE_INFINITY : config.TRANSCODE_INLINE_KB * 1024;
    this.largeBytes = config.LARGE_REQUEST_KB * 1024;
    this.smallBytes = config.ACK_MODE === 'durable' ? SMALL_BYTES : 0;
    this.maxSpanAgeMs = config.SPAN_MAX_AGE_DAYS === 0 ? Number.POSITIVE_INFINITY : config.SPAN_MAX_AGE_DAYS * 86_400_000;
    const makeEncoder = () => new BlockEncoder(config.ROW_DIALECT, maxSpanBytes(config));
    this.encoder = makeEncoder();
    this.open = new OpenBlock(this.encoder, config.SEAL_INTERVAL_MS, (block) => this.push(block));
    pressure.onHigh(() =>
      this.open.replaceEncoder(() => {
        this.encoder = makeEncoder();
        this.encoder.setRules(this.rules);
        return this.encoder;
      }),
    );
    queue.sealOpenBlock = () => this.open.seal();
    this.queue = queue;
    this.table = table;
    this.limits = table.limits;
    this.rules = this.currentRules();
  }

  /**
   * Queues the spans of a request, and takes over its body with its reservation.
   * @throws MalformedRequest; then nothing of the request is stored
   */
  transcode(body: Body, encoding: Encoding, targetId: string, trace?: RequestTrace): Accepted | Promise<Accepted> {
    this.counts.totals.bodyBytes += body.length;
    if (this.table.limits !== this.limits) this.rules = this.currentRules();
    if (body.length > this.inlineBytes) return this.transcodeLarge(body, encoding, targetId, trace);
    const transcode = () => this.scheduler.run(targetId, () => this.transcodeInline(body, encoding, targetId, trace));
    return body.length < this.smallBytes ? this.defer(body.length, transcode) : transcode();
  }

  /** Seals and queues the open block. */
  seal(): void {
    this.open.seal();
  }

  /** Makes the rules from the configuration and the current limits of the table, also for the open block. */
  private currentRules(): TranscodeRules {
    this.limits = this.table.limits;
    const { maxRowAgeMs, textColumns } = this.limits;
    const rules = { maxSpanAgeMs: this.maxSpanAgeMs, keptAgeMs: maxRowAgeMs, textColumns };
    this.encoder.setRules(rules);
    return rules;
  }

  private push(block: QueuedBlock): Promise<void> {
    const bytes = block.frame.length;
    this.counts.blockBytes.observe(bytes);
    const durable = this.queue.push(block);
    block.trace?.queued(block.rows, bytes, durable);
    return durable;
  }

  private defer(bodyBytes: number, transcode: () => Accepted | Promise<Accepted>): Promise<Accepted> {
    return new Promise((resolve, reject) => {
      this.open.defer(bodyBytes, () => {
        try {
          resolve(transcode());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  private transcodeInline(body: Body, encoding: Encoding, targetId: string, trace: RequestTrace | undefined): Accepted {
    if (body.length <= this.largeBytes) return this.open.add(body, encoding, targetId, trace);
    // In a block of its own, it can be refused for lack of room without affecting other requests.
    this.open.seal();
    const accepted = this.open.add(body, encoding, targetId, trace);
    this.open.seal();
    return accepted;
  }

  private async transcodeLarge(body: Body, encoding: Encoding, targetId: string, trace: RequestTrace | undefined): Promise<Accepted> {
    const { memory } = body;
    try {
      const { transcoded, frame, rows } = await this.largeBodies.transcode(body, encoding, targetId, this.rules);
      if (rows === 0) return { ...transcoded, firstRow: 0, durable: Promise.resolve() };
      const blockBytes = frame.length;
      const outcome = new BlockOutcome();
      const block = { frame: Buffer.from(frame.buffer, frame.byteOffset, frame.length), rows, trace: trace?.join(undefined), outcome };
      const durable = this.push(block).finally(() => memory.releaseBlock());
      memory.moveToBlock(blockBytes);
      durable.catch(() => {});
      return { ...transcoded, firstRow: 0, durable, outcome };
    } finally {
      memory.releaseBody();
    }
  }
}
