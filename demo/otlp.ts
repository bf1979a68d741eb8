/** OTLP in JSON, as far as the gateway's exporter writes it (opentelemetry-proto, trace.proto and common.proto). */

type Value =
  | { stringValue: string }
  | { intValue: number }
  | { boolValue: boolean }
  | { arrayValue: { values: Value[] } }
  | Record<string, never>;

export interface Attribute {
  readonly key: string;
  readonly value: Value;
}

export interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: typeof INTERNAL | typeof CLIENT;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly events: readonly { readonly name: string; readonly timeUnixNano: string; readonly attributes: readonly Attribute[] }[];
  readonly status: { readonly code: number; readonly message?: string };
}

export const INTERNAL = 1;
export const CLIENT = 3;
export const UNSET = 0;
export const OK = 1;
export const ERROR = 2;

/** An undefined becomes an attribute without a value, as the gateway's exporter writes it. */
export function attributes(of: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>): Attribute[] {
  return Object.entries(of).map(([key, given]) => ({ key, value: valueOf(given) }));
}

function valueOf(given: string | number | boolean | readonly string[] | undefined): Value {
  if (given === undefined) return {};
  if (typeof given === 'string') return { stringValue: given };
  if (typeof given === 'number') return { intValue: given };
  if (typeof given === 'boolean') return { boolValue: given };
  return { arrayValue: { values: given.map(valueOf) } };
}

/** An ExportTraceServiceRequest of one resource and one scope. */
export function requestOf(resource: readonly Attribute[], spans: readonly OtlpSpan[]): string {
  return JSON.stringify({ resourceSpans: [{ resource: { attributes: resource }, scopeSpans: [{ scope: { name: 'gateway' }, spans }] }] });
}

export function nanoseconds(ms: number): string {
  return String(Math.round(ms * 1e3)).concat('000');
}
