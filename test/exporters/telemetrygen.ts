import { type ExpectedRow, NOTHING_NESTED } from '../support/oracle/expected-rows.ts';
import { type Destination, exporterVariables, type Sender, TARGET } from './sender.ts';
import { run } from './toolchains.ts';

/*
 * telemetrygen: the SDK for Go and its exporters. It makes up ids and times, so its rows are compared without them, save
 * for what holds them together: each trace is of one parent and its children.
 */

const TRACES = 200;
const CHILDREN = 2;
const MADE_UP = '(made up)';
const NOBODY = '';

export function telemetrygenSenders(program: string): Sender[] {
  return (['proto', 'grpc'] as const).flatMap((encoding) =>
    ['none', 'gzip'].map((compression) => ({
      name: 'telemetrygen (Go SDK)',
      encoding,
      compression,
      compared: { leftOut: 'ids and times, which it makes up', expected: expectedShapes(), comparable: shapes },
      send: (to) => generate(program, to, encoding, compression),
    })),
  );
}

async function generate(
  program: string,
  { httpUrl, grpcUrl, headers }: Destination,
  encoding: 'proto' | 'grpc',
  compression: string,
): Promise<void> {
  const url = encoding === 'grpc' ? grpcUrl : httpUrl;
  const options = {
    'otlp-endpoint': new URL(url).host,
    traces: TRACES,
    'child-spans': CHILDREN,
    'span-duration': '5ms',
    'status-code': 'Error',
    rate: 0,
    service: 'generated',
  };
  const repeated = {
    'otlp-header': Object.entries(headers).map(([name, value]) => `${name}="${value}"`),
    'otlp-attributes': ['instance=7'],
    'telemetry-attributes': ['text="grüße"', 'flag=true', 'number=42', 'list=["a", "b"]'],
  };
  const args = [
    ...Object.entries(options).map(([name, value]) => `--${name}=${value}`),
    ...Object.entries(repeated).flatMap(([name, values]) => values.map((value) => `--${name}=${value}`)),
  ];
  await run(program, ['traces', '--otlp-insecure', ...(encoding === 'grpc' ? [] : ['--otlp-http']), ...args], {
    env: exporterVariables(url, compression, {}),
  });
}

/** Rows without ids and times: whose trace and whose child a span is, is said by the parent's name. */
function shapes(rows: readonly ExpectedRow[]): ExpectedRow[] {
  const names = new Map(rows.map(({ TraceId, SpanId, SpanName }) => [`${TraceId} ${SpanId}`, SpanName]));
  const shape = (row: ExpectedRow): ExpectedRow => ({
    ...row,
    Timestamp: MADE_UP,
    TraceId: MADE_UP,
    SpanId: MADE_UP,
    ParentSpanId: row.ParentSpanId === NOBODY ? NOBODY : `of ${names.get(`${row.TraceId} ${row.ParentSpanId}`) ?? 'nobody'}`,
  });
  return rows.map(shape).toSorted((one, other) => (one.SpanName < other.SpanName ? -1 : 1));
}

function expectedShapes(): ExpectedRow[] {
  const common = {
    Timestamp: MADE_UP,
    TraceId: MADE_UP,
    SpanId: MADE_UP,
    TraceState: '',
    ServiceName: 'generated',
    ResourceAttributes: { 'service.name': 'generated', instance: '7', 'hive.target_id': TARGET },
    ScopeName: 'telemetrygen',
    ScopeVersion: '',
    StatusCode: 'STATUS_CODE_ERROR',
    StatusMessage: '',
    ...NOTHING_NESTED,
  };
  const attributes = {
    'network.peer.address': '1.2.3.4',
    text: 'grüße',
    flag: 'true',
    number: '42',
    list: '["a","b"]',
    'hive.target_id': TARGET,
  };
  const parent = {
    ...common,
    ParentSpanId: NOBODY,
    SpanName: 'lets-go',
    SpanKind: 'SPAN_KIND_CLIENT',
    SpanAttributes: { ...attributes, 'service.peer.name': 'telemetrygen-server' },
    Duration: String(CHILDREN * 5_000_000),
  };
  const child = (index: number) => ({
    ...common,
    ParentSpanId: 'of lets-go',
    SpanName: `okey-dokey-${index}`,
    SpanKind: 'SPAN_KIND_SERVER',
    SpanAttributes: { ...attributes, 'service.peer.name': 'telemetrygen-client' },
    Duration: '5000000',
  });
  return [parent, ...Array.from({ length: CHILDREN }, (_, index) => child(index))].flatMap((row) =>
    Array.from({ length: TRACES }, () => row),
  );
}
