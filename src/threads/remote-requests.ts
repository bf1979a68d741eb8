import { Injectable } from '@nestjs/common';
import type { Accepted } from '../blocks/open-block.ts';
import { EarlierRequests } from '../ingest/unstored-requests.ts';
import type { BlockOutcome } from '../queue/block-outcome.ts';
import { MainThread } from './main-thread.ts';
import { type FirstRequest, rowsOf } from './messages.ts';
import { RemoteQueue } from './remote-queue.ts';

/** Finds repeated requests through the main thread: a retry may use another connection, and so arrive in another thread. */
@Injectable()
export class RemoteRequests extends EarlierRequests {
  /** Requests whose block is still open, by its outcome. They are reported when the block is pushed and has a number. */
  private readonly open = new WeakMap<BlockOutcome, Omit<FirstRequest, 'number'>[]>();

  constructor(
    private readonly main: MainThread,
    private readonly queue: RemoteQueue,
  ) {
    super();
    queue.onNumber = (outcome, number) => {
      for (const request of this.open.get(outcome) ?? []) this.main.tell('first', { ...request, number });
    };
  }

  async join(identity: string): Promise<Accepted | undefined> {
    const joined = await this.main.call('join', identity);
    if (joined === undefined) return undefined;
    const durable = this.main.call('joined', joined.number);
    durable.catch(() => {});
    return { ...joined.rows, durable };
  }

  add(identity: string, accepted: Accepted): void {
    const { outcome } = accepted;
    const rows = rowsOf(accepted);
    // A request without spans has no outcome.
    if (outcome === undefined) return;
    const number = this.queue.numberOf(outcome);
    if (number !== undefined) return this.main.tell('first', { identity, number, rows });
    const requests = this.open.get(outcome);
    if (requests === undefined) this.open.set(outcome, [{ identity, rows }]);
    else requests.push({ identity, rows });
  }
}
