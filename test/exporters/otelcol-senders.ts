import type { OtlpRequest } from '../support/oracle/otlp-request.ts';
import { javascriptExporter, sendWithJavaScript } from './javascript.ts';
import { comparedWithout, NO_LARGE_INTEGERS } from './limits.ts';
import { passesOn, startOtelcol } from './otelcol.ts';
import { post } from './request-itself.ts';
import type { Sender } from './sender.ts';

const COMPRESSIONS = ['none', 'gzip', 'zstd'];

/** What the JavaScript SDK, and what the request itself, become by way of an OpenTelemetry Collector. */
export function otelcolSenders(request: OtlpRequest, program: string): Sender[] {
  const sources = [
    { name: 'JavaScript SDK → otelcol', limits: [NO_LARGE_INTEGERS], feed: feedWithJavaScript },
    { name: 'the request itself → otelcol', limits: [], feed: (url: string) => post(request, url, {}) },
  ];
  return sources.flatMap(({ name, limits, feed }) =>
    (['proto', 'json', 'grpc'] as const).flatMap((encoding) =>
      COMPRESSIONS.map((compression) => ({
        name,
        encoding,
        compression,
        compared: comparedWithout(request, limits),
        async send(to) {
          await using otelcol = await startOtelcol(program, passesOn(to, encoding, compression));
          await feed(otelcol.url);
          await otelcol.stop();
        },
      })),
    ),
  );

  function feedWithJavaScript(url: string): Promise<void> {
    return sendWithJavaScript(request, javascriptExporter('proto', 'none', `${url}/v1/traces`, {}));
  }
}
