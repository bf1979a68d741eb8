import { Injectable } from '@nestjs/common';
import { LargeBodies, movable, type TranscodedBody } from '../blocks/large-bodies.ts';
import type { Body } from '../bodies/request-body.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { Refusal } from '../otlp/refusal.ts';
import type { TranscodeRules } from '../transcode/columns/transcode-rules.ts';
import { MainThread } from './main-thread.ts';

/** Passes large bodies to the main thread, whose worker threads transcode the bodies of all threads, within one memory limit. */
@Injectable()
export class RemoteBodies extends LargeBodies {
  constructor(private readonly main: MainThread) {
    super();
  }

  async transcode(body: Body, encoding: Encoding, targetId: string, rules: TranscodeRules): Promise<TranscodedBody> {
    const { length, memory } = body;
    const chunks = await movable(body);
    const transfer = chunks.map(({ buffer }) => buffer);
    try {
      return await this.main.call('transcode', { chunks, length, encoding, targetId, rules }, transfer);
    } catch (error) {
      // Memory is too short to transcode it. The refusal is counted in this thread, like all other refusals of its requests.
      throw error instanceof Refusal ? memory.refuse() : error;
    }
  }
}
