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

/** '' means the whole server. */
const SERVICES: ReadonlySet<string> = new Set(['', TRACE_SERVICE]);

const WATCH_INTERVAL_MS = 250;

const LIMITS: BodyLimits = { maxBytes: 1024, timeoutMs: 5_000 };
/** Health checks reserve no memory: they must also be answered when memory is full. */
const NO_MEMORY: BodyMemory = { reserve: () => undefined, releaseBody() {} };

interface Watcher {
  readonly call: Call;
  readonly service: string;
  lastSent?: Uint8Array;
}

/** gRPC's standard health service: SERVING while /ready is 200. */
@Injectable()
export class GrpcHealth {
  private readonly watchers = new Set<Watcher>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly ingest: IngestService) {}

  /** The status of a service. @throws Refusal 404 for an unknown service */
  async check(call: Call): Promise<Uint8Array> {
    const service = await this.serviceOf(call);
    if (!SERVICES.has(service)) throw new Refusal(404, `There is no service ${JSON.stringify(service)} here.`);
    return this.statusOf(service);
  }

  /** Sends the status of a service, and then each change until the call ends. */
  async watch(call: Call): Promise<void> {
    const watcher: Watcher = { call, service: await this.serviceOf(call) };
    this.watchers.add(watcher);
    call.onceOver(() => this.watchers.delete(watcher));
    this.sendIfChanged(watcher);
    this.timer ??= setInterval(() => this.watchers.forEach((one) => this.sendIfChanged(one)), WATCH_INTERVAL_MS).unref();
  }

  /** Ends all watching calls: they would not end by themselves. */
  close(): void {
    clearInterval(this.timer);
    for (const watcher of this.watchers) {
      this.sendIfChanged(watcher);
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

  private sendIfChanged(watcher: Watcher): void {
    const status = this.statusOf(watcher.service);
    if (status !== watcher.lastSent) watcher.call.send(status);
    watcher.lastSent = status;
  }

  private statusOf(service: string): Uint8Array {
    if (!SERVICES.has(service)) return SERVICE_UNKNOWN;
    return this.ingest.refusal() === undefined ? SERVING : NOT_SERVING;
  }
}
