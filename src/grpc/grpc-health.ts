import { Injectable } from '@nestjs/common';
import protobuf from 'protobufjs/light.js';
import type { BodyLimits, BodyMemory } from '../bodies/request-body.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { Refusal, shuttingDown } from '../otlp/refusal.ts';
import type { Call } from './call.ts';
import { refused } from './status.ts';
import { TRACE_SERVICE } from './trace-export.ts';

// grpc.health.v1, health.proto
const HealthCheckRequest = new protobuf.Type('HealthCheckRequest').add(new protobuf.Field('service', 1, 'string'));
const HealthCheckResponse = new protobuf.Type('HealthCheckResponse').add(new protobuf.Field('status', 1, 'int32'));
const [SERVING, NOT_SERVING, SERVICE_UNKNOWN] = [1, 2, 3].map((status) => HealthCheckResponse.encode({ status }).finish());

/** '' is the whole server. */
const SERVICES: ReadonlySet<string> = new Set(['', TRACE_SERVICE]);

const WATCH_INTERVAL_MS = 250;

const LIMITS: BodyLimits = { maxBytes: 1024, timeoutMs: 5_000 };
/** Whether the memory is full is one of the things asked about: it must not keep from asking. */
const NO_MEMORY: BodyMemory = { reserve: () => undefined, releaseBody() {} };

interface Watcher {
  readonly call: Call;
  readonly service: string;
  lastSent?: Uint8Array;
}

/** gRPC's standard health service: serving while /ready says 200. */
@Injectable()
export class GrpcHealth {
  private readonly ingest: IngestService;
  private readonly watchers = new Set<Watcher>();
  private timer: NodeJS.Timeout | undefined;

  constructor(ingest: IngestService) {
    this.ingest = ingest;
  }

  /** @throws Refusal 404 for a service that is not here */
  async check(call: Call): Promise<Uint8Array> {
    const service = await this.serviceOf(call);
    if (!SERVICES.has(service)) throw new Refusal(404, `There is no service ${JSON.stringify(service)} here.`);
    return this.statusOf(service);
  }

  /** Says how it is now, and then whenever that changes. */
  async watch(call: Call): Promise<void> {
    const watcher: Watcher = { call, service: await this.serviceOf(call) };
    this.watchers.add(watcher);
    call.onceOver(() => this.watchers.delete(watcher));
    this.tell(watcher);
    this.timer ??= setInterval(() => this.watchers.forEach((one) => this.tell(one)), WATCH_INTERVAL_MS).unref();
  }

  /** Ends what would else never end. */
  close(): void {
    clearInterval(this.timer);
    for (const watcher of this.watchers) {
      this.tell(watcher);
      watcher.call.end(refused(shuttingDown()));
    }
  }

  private async serviceOf(call: Call): Promise<string> {
    const { chunks } = await call.read(LIMITS, NO_MEMORY);
    try {
      return (HealthCheckRequest.decode(Buffer.concat(chunks)) as unknown as { service: string }).service;
    } catch {
      throw new Refusal(400, 'The message is not a HealthCheckRequest.');
    }
  }

  private tell(watcher: Watcher): void {
    const status = this.statusOf(watcher.service);
    if (status !== watcher.lastSent) watcher.call.send(status);
    watcher.lastSent = status;
  }

  private statusOf(service: string): Uint8Array {
    if (!SERVICES.has(service)) return SERVICE_UNKNOWN;
    return this.ingest.refusal() === undefined ? SERVING : NOT_SERVING;
  }
}
