import type { Slice } from '../bytes/slice.ts';

/** The fields of a span until its row is written. Times are nanoseconds in signed 32-bit halves. */
export class SpanFields<Text extends Slice> {
  readonly traceId: Text;
  readonly spanId: Text;
  readonly parentSpanId: Text;
  readonly traceState: Text;
  readonly name: Text;
  readonly statusMessage: Text;
  statusCode = 0;
  kind = 0;
  startLow = 0;
  startHigh = 0;
  endLow = 0;
  endHigh = 0;

  /** @param text makes a text field; the encodings differ in what one is */
  constructor(text: () => Text) {
    this.traceId = text();
    this.spanId = text();
    this.parentSpanId = text();
    this.traceState = text();
    this.name = text();
    this.statusMessage = text();
  }

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
