import type { ExpectedRow } from '../support/oracle/expected-rows.ts';

export const TARGET = 'the-guild/hive/production';

/** Over HTTP the first two. */
export type Encoding = 'proto' | 'json' | 'grpc';

/** Where spans are sent to. */
export interface Destination {
  /** http://HOST:PORT */
  readonly httpUrl: string;
  readonly grpcUrl: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** What the rows of a sender are held against. */
export interface Compared {
  /** What they are compared without, as the sender can't send it: for the table. */
  readonly leftOut: string;
  /** The rows its spans have to become, in the order that `comparable` gives them. */
  readonly expected: readonly ExpectedRow[];
  /** Puts rows in an order, and takes from them what the sender makes up anew each time. */
  readonly comparable: (rows: readonly ExpectedRow[]) => ExpectedRow[];
}

/** One exporter at one setting. */
export interface Setting {
  readonly name: string;
  readonly encoding: Encoding;
  readonly compression: string;
  readonly compared: Compared;
}

export interface Sender extends Setting {
  /** Resolves when the sender has ended, so that its spans are stored or lost. */
  send(to: Destination): Promise<void>;
}

/** The variables of the specification, which all SDKs read. */
export function exporterVariables(url: string, compression: string, headers: Destination['headers']): Record<string, string> {
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    OTEL_EXPORTER_OTLP_HEADERS: Object.entries(headers)
      .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
      .join(','),
    ...(compression !== 'none' && { OTEL_EXPORTER_OTLP_COMPRESSION: compression }),
  };
}
