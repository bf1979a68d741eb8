import type { ServerResponse } from 'node:http';
import { Injectable, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { RecentTraces } from './recent-traces.ts';
import { Sampler, type Sample } from './sampler.ts';
import { CollectorState } from './state.ts';
import { Viewers } from './viewers.ts';

/** Sends the open pages their data each second. Without an open page it does nothing. */
@Injectable()
export class StatusService implements OnModuleInit, BeforeApplicationShutdown {
  private readonly viewers = new Viewers();
  private closed = false;

  constructor(
    private readonly sampler: Sampler,
    private readonly state: CollectorState,
    private readonly traces: RecentTraces,
  ) {}

  onModuleInit(): void {
    this.sampler.onSample = (sample) => this.sendSample(sample);
  }

  /** Sends events to a page until it is closed. @returns false if too many pages are open */
  watch(response: ServerResponse): boolean {
    if (this.closed || this.viewers.isFull) return false;
    this.viewers.add(response);
    this.viewers.send('history', this.sampler.history(), [response]);
    this.viewers.send('state', this.state.describe(), [response]);
    if (this.traces.isOn) this.viewers.send('traces', this.traces.list, [response]);
    return true;
  }

  /** Ends the event streams: open pages would delay the shutdown. */
  beforeApplicationShutdown(): void {
    this.closed = true;
    this.viewers.send('end', {});
    this.viewers.close();
  }

  private sendSample(sample: Sample): void {
    if (this.viewers.isEmpty) return;
    this.viewers.send('sample', sample);
    this.viewers.send('state', this.state.describe());
    void this.traces.refresh().then((isNew) => {
      if (isNew) this.viewers.send('traces', this.traces.list);
    });
  }
}
