import { Injectable } from '@nestjs/common';
import { Authenticator } from '../auth/authenticator.ts';
import { type Admitted, IngestService } from '../ingest/ingest.service.ts';
import { TracesService } from '../ingest/traces.service.ts';
import { Refusal } from '../otlp/refusal.ts';
import { SelfTracing } from '../tracing/self-tracing.ts';
import type { Call } from './call.ts';

export const TRACE_SERVICE = 'opentelemetry.proto.collector.trace.v1.TraceService';

/** Handles the calls of the trace service, as PlainTraces and TracesController do for HTTP. */
@Injectable()
export class TraceExport {
  constructor(
    private readonly auth: Authenticator,
    private readonly ingest: IngestService,
    private readonly traces: TracesService,
    private readonly tracing: SelfTracing,
  ) {}

  /**
   * Handles one ExportTraceServiceRequest. Resolves when its spans are durable (docs/architecture.md: "200 means durable").
   * @returns an ExportTraceServiceResponse
   * @throws Refusal, MalformedRequest
   */
  async export(call: Call): Promise<Uint8Array> {
    const trace = this.tracing.tracer?.call(call, TRACE_SERVICE);
    trace?.step('authenticate');
    const admitted = await this.admit(call);
    trace?.step('read body');
    const { body } = await this.traces.store(admitted, call.read(this.ingest.bodyLimits, admitted.memory), trace);
    return body;
  }

  /** Admits a call before its message is read. @throws Refusal */
  private async admit(call: Call): Promise<Admitted> {
    try {
      const target = await this.auth.authenticateHeaders(call.headers);
      call.target = target;
      return this.ingest.admit('grpc', call.connection, target, 'protobuf');
    } catch (error) {
      // A body that is always too long gets 413, not a Retry-After: its sender would retry forever.
      const isForNow = error instanceof Refusal && error.retryAfterSeconds !== undefined;
      throw (isForNow ? this.ingest.refusalOfLength(await call.declaredBytes()) : undefined) ?? error;
    }
  }
}
