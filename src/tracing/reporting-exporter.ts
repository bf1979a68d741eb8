import { Logger } from '@nestjs/common';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace-base';
import { RepeatedLine } from '../telemetry/repeated-line.ts';

type Done = Parameters<SpanExporter['export']>[1];

/** An exporter that logs its failures. The spans of a failed export are lost: they are not retried here. */
export class ReportingExporter implements SpanExporter {
  private readonly failed = new RepeatedLine(new Logger('SelfTracing'), 'warn', "The collector's own traces can't be sent");
  private readonly exporter: SpanExporter;
  private readonly endpoint: string;

  constructor(exporter: SpanExporter, endpoint: string) {
    this.exporter = exporter;
    this.endpoint = endpoint;
  }

  export(spans: ReadableSpan[], done: Done): void {
    this.exporter.export(spans, (result) => {
      if (result.error !== undefined) this.failed.write({ endpoint: this.endpoint, spans: spans.length, reason: reasonOf(result.error) });
      done(result);
    });
  }

  shutdown(): Promise<void> {
    return this.exporter.shutdown();
  }
}

function reasonOf({ message, code }: Error & { code?: unknown }): string {
  return message === '' ? String(code) : message;
}
