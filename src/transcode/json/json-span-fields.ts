import { JsonString } from './json-string.ts';

/** The fields of a span until its row is written. Times are nanoseconds in signed 32-bit halves. */
export class JsonSpanFields {
  readonly traceId = new JsonString();
  readonly spanId = new JsonString();
  readonly parentSpanId = new JsonString();
  readonly traceState = new JsonString();
  readonly name = new JsonString();
  readonly statusMessage = new JsonString();
  statusCode = 0;
  kind = 0;
  startLow = 0;
  startHigh = 0;
  endLow = 0;
  endHigh = 0;

  /** Sets each field to its default. */
  clear(): void {
    this.traceId.clear();
    this.spanId.clear();
    this.parentSpanId.clear();
    this.traceState.clear();
    this.name.clear();
    this.statusMessage.clear();
    this.statusCode = 0;
    this.kind = 0;
    this.startLow = 0;
    this.startHigh = 0;
    this.endLow = 0;
    this.endHigh = 0;
  }
}
