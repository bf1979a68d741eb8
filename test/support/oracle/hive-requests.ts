import type { AnyValue, KeyValue, OtlpRequest, Span, SpanEvent } from './otlp-request.ts';

/*
 * One request of each kind that Hive's clients send, with the row that Hive lists for it, written by hand. Shapes as recorded
 * from Hive Gateway 2.15 and Yoga with Hive's tracing (JSON) and Hive Router 0.3 (Protobuf).
 */

/** Columns of otel_traces_normalized by which requests differ. */
export interface ListedRequest {
  readonly http_status_code: string;
  readonly http_method: string;
  readonly http_host: string;
  readonly http_route: string;
  readonly http_url: string;
  readonly client_name: string;
  readonly client_version: string;
  readonly graphql_operation_name: string;
  readonly graphql_operation_type: string;
  readonly graphql_operation_document: string;
  readonly graphql_operation_hash: string;
  readonly graphql_error_count: number;
  readonly graphql_error_codes: readonly string[];
  readonly subgraph_names: readonly string[];
}

export interface ClientRequest {
  readonly client: string;
  readonly encoding: 'json' | 'protobuf';
  readonly request: OtlpRequest;
  readonly traceId: string;
  readonly rootSpanId: string;
  /** Seconds after `firstSecond`. */
  readonly second: number;
  readonly durationNs: number;
  /** Undefined if Hive does not list the request. */
  readonly listed?: ListedRequest;
  /** `subgraph_names` in Hive's own view, if ours differs on purpose. */
  readonly subgraphsInHive?: readonly string[];
}

/** Noon of yesterday (UTC) in Unix seconds: no TTL drops its rows. */
export const firstSecond = Math.floor(Date.now() / 86_400_000) * 86_400 - 43_200;

const MILLISECOND = 1_000_000;

function text(key: string, value: string): KeyValue {
  return { key, value: { stringValue: value } };
}
function number(key: string, value: number): KeyValue {
  return { key, value: { intValue: BigInt(value) } };
}
function yes(key: string): KeyValue {
  return { key, value: { boolValue: true } };
}
function texts(key: string, values: readonly string[]): KeyValue {
  return array(
    key,
    values.map((value) => ({ stringValue: value })),
  );
}
function array(key: string, values: AnyValue[]): KeyValue {
  return { key, value: { arrayValue: { values } } };
}

interface Sent {
  readonly client: string;
  readonly service: string;
  readonly encoding?: 'json' | 'protobuf';
  readonly root: KeyValue[];
  readonly children?: readonly string[];
  readonly events?: SpanEvent[];
  readonly listed?: ListedRequest;
  readonly subgraphsInHive?: readonly string[];
}

const AN_ERROR: SpanEvent = {
  name: 'exception',
  timeUnixNano: BigInt(firstSecond) * 1_000_000_000n + 123_456_789n,
  attributes: [text('exception.type', 'GraphQLError'), text('exception.message', 'It\'s "gone", for now')],
};

const http = [
  text('http.method', 'POST'),
  text('http.url', 'http://gateway.example.com/graphql'),
  text('http.route', '/graphql'),
  text('http.host', 'gateway.example.com'),
];
const web = [text('hive.client.name', 'web'), text('hive.client.version', '1.2')];
const NOTHING: ListedRequest = {
  http_status_code: '200',
  http_method: 'POST',
  http_host: 'gateway.example.com',
  http_route: '/graphql',
  http_url: 'http://gateway.example.com/graphql',
  client_name: '',
  client_version: '',
  graphql_operation_name: '',
  graphql_operation_type: '',
  graphql_operation_document: '',
  graphql_operation_hash: '',
  graphql_error_count: 0,
  graphql_error_codes: [],
  subgraph_names: [],
};
const PHASES = ['graphql.parse', 'graphql.validate', 'graphql.execute'];

const SENT: readonly Sent[] = [
  {
    client: 'Gateway: an operation with variables over two subgraphs',
    service: 'hive-gateway',
    root: [
      yes('hive.graphql'),
      text('graphql.document', 'query Posts($first: Int!) { posts(first: $first) { title author { name } } }'),
      text('graphql.operation.name', 'Posts'),
      text('graphql.operation.type', 'query'),
      text('graphql.variables', '{"first":10}'),
      // The gateway exports undefined attributes with an empty value.
      { key: 'hive.graphql.error.codes', value: {} },
      { key: 'hive.graphql.error.count', value: {} },
      text('hive.graphql.operation.hash', '291138c2cc653f49875c561e9ca1bb00'),
      texts('hive.gateway.operation.subgraph.names', ['posts', 'users']),
      ...http,
      ...web,
      yes('hive.request'),
      number('http.status_code', 200),
    ],
    children: [...PHASES, 'subgraph.execute (posts)', 'http.fetch', 'subgraph.execute (users)', 'http.fetch'],
    listed: {
      ...NOTHING,
      client_name: 'web',
      client_version: '1.2',
      graphql_operation_name: 'Posts',
      graphql_operation_type: 'query',
      graphql_operation_document: 'query Posts($first: Int!) { posts(first: $first) { title author { name } } }',
      graphql_operation_hash: '291138c2cc653f49875c561e9ca1bb00',
      subgraph_names: ['posts', 'users'],
    },
  },
  {
    client: 'Gateway: errors whose codes hold commas, quotes and nothing',
    service: 'hive-gateway',
    root: [
      yes('hive.graphql'),
      text('graphql.document', 'mutation Pay { pay }'),
      text('graphql.operation.name', 'Pay'),
      text('graphql.operation.type', 'mutation'),
      texts('hive.graphql.error.codes', ['A,B', 'SAID "NO"', '', "IT'S", 'back\\slash', 'DOWNSTREAM_SERVICE_ERROR']),
      number('hive.graphql.error.count', 6),
      text('hive.graphql.operation.hash', 'b605a43b9b4534bb7566596aae26e255'),
      texts('hive.gateway.operation.subgraph.names', ['billing, EU', '']),
      ...http,
      number('http.status_code', 500),
    ],
    children: PHASES,
    events: [AN_ERROR],
    listed: {
      ...NOTHING,
      http_status_code: '500',
      graphql_operation_name: 'Pay',
      graphql_operation_type: 'mutation',
      graphql_operation_document: 'mutation Pay { pay }',
      graphql_operation_hash: 'b605a43b9b4534bb7566596aae26e255',
      graphql_error_count: 6,
      graphql_error_codes: ['A,B', 'SAID "NO"', "IT'S", 'back\\slash', 'DOWNSTREAM_SERVICE_ERROR'],
      subgraph_names: ['billing, EU'],
    },
  },
  {
    client: 'Gateway: introspection',
    service: 'hive-gateway',
    root: [
      yes('hive.graphql'),
      text('graphql.document', 'query IntrospectionQuery{__schema{queryType{name}}}'),
      text('graphql.operation.name', 'IntrospectionQuery'),
      text('graphql.operation.type', 'query'),
      texts('hive.gateway.operation.subgraph.names', []),
      ...http,
      ...web,
      number('http.status_code', 200),
    ],
    children: PHASES,
    listed: {
      ...NOTHING,
      client_name: 'web',
      client_version: '1.2',
      graphql_operation_name: 'IntrospectionQuery',
      graphql_operation_type: 'query',
      graphql_operation_document: 'query IntrospectionQuery{__schema{queryType{name}}}',
    },
  },
  {
    client: 'Gateway: a request that is not GraphQL',
    service: 'hive-gateway',
    root: [text('http.route', '/health'), text('http.method', 'GET'), number('http.status_code', 200)],
  },
  {
    client: 'Yoga: an anonymous operation without subgraphs',
    service: 'yoga',
    root: [
      yes('hive.graphql'),
      text('graphql.document', '{ me { name } }'),
      text('graphql.operation.type', 'query'),
      ...http,
      number('http.status_code', 200),
    ],
    children: PHASES,
    listed: { ...NOTHING, graphql_operation_type: 'query', graphql_operation_document: '{ me { name } }' },
  },
  {
    client: "Yoga: a document that can't be parsed, with errors without codes",
    service: 'yoga',
    root: [
      yes('hive.graphql'),
      text('graphql.document', '{ me { '),
      number('hive.graphql.error.count', 1),
      texts('hive.graphql.error.codes', []),
      ...http,
      number('http.status_code', 400),
    ],
    listed: { ...NOTHING, http_status_code: '400', graphql_operation_document: '{ me { ', graphql_error_count: 1 },
  },
  {
    client: 'Router: two subgraphs, in one text',
    service: 'hive-router',
    encoding: 'protobuf',
    root: [
      text('hive.graphql', 'true'),
      text('graphql.document', 'query Feed{posts{author{name}}}'),
      text('graphql.operation.name', 'Feed'),
      text('graphql.operation.type', 'query'),
      text('hive.graphql.operation.hash', 'e92177e49c0010d4e52929531ebe30c9'),
      text('hive.gateway.operation.subgraph.names', 'posts,users'),
      text('target', 'hive-router'),
      ...http,
      ...web,
      number('http.status_code', 200),
    ],
    children: ['graphql.plan', 'graphql.execute', 'http.inflight', 'http.client'],
    listed: {
      ...NOTHING,
      client_name: 'web',
      client_version: '1.2',
      graphql_operation_name: 'Feed',
      graphql_operation_type: 'query',
      graphql_operation_document: 'query Feed{posts{author{name}}}',
      graphql_operation_hash: 'e92177e49c0010d4e52929531ebe30c9',
      subgraph_names: ['posts', 'users'],
    },
    subgraphsInHive: [],
  },
  {
    client: 'Router: one subgraph, and an error count',
    service: 'hive-router',
    encoding: 'protobuf',
    root: [
      text('hive.graphql', 'true'),
      text('graphql.operation.name', 'Me'),
      text('graphql.operation.type', 'query'),
      text('hive.graphql.error.count', '2'),
      text('hive.gateway.operation.subgraph.names', 'users'),
      ...http,
      number('http.status_code', 200),
    ],
    listed: {
      ...NOTHING,
      graphql_operation_name: 'Me',
      graphql_operation_type: 'query',
      graphql_error_count: 2,
      subgraph_names: ['users'],
    },
    subgraphsInHive: [],
  },
  {
    client: 'Router: a root without hive.graphql',
    service: 'hive-router',
    encoding: 'protobuf',
    root: [text('http.route', '/metrics'), text('hive.graphql', '')],
  },
];

/** Two requests a second, so that the order within a second shows. */
export const clientRequests: readonly ClientRequest[] = SENT.map((sent, i) => build(sent, i));

function build(
  { client, service, encoding = 'json', root, children = [], events = [], listed, subgraphsInHive }: Sent,
  i: number,
): ClientRequest {
  const second = Math.floor(i / 2);
  const durationNs = (i + 1) * 10 * MILLISECOND + i;
  const startTimeUnixNano = BigInt(firstSecond + second) * 1_000_000_000n + BigInt(i);
  const endTimeUnixNano = startTimeUnixNano + BigInt(durationNs);
  const traceId = Buffer.alloc(16, 0xa0 + i);
  const spanId = Buffer.alloc(8, 1);
  const times = { startTimeUnixNano, endTimeUnixNano };
  const spans: Span[] = [
    // Exporters send the root last: it ends last.
    ...children.map((name, child): Span => ({
      traceId,
      spanId: Buffer.alloc(8, 2 + child),
      parentSpanId: spanId,
      name,
      kind: 1,
      ...times,
      attributes: [text('graphql.operation.name', 'of a child')],
      events: [],
      links: [],
    })),
    {
      traceId,
      spanId,
      name: 'graphql.operation',
      kind: 2,
      ...times,
      attributes: root,
      events,
      links: [],
      ...(events.length > 0 && { status: { code: 2, message: 'gone' } }),
    },
  ];
  return {
    client,
    encoding,
    request: {
      resourceSpans: [
        { resource: { attributes: [text('service.name', service)] }, scopeSpans: [{ scope: { name: 'gateway', attributes: [] }, spans }] },
      ],
    },
    traceId: traceId.toString('hex'),
    rootSpanId: spanId.toString('hex'),
    second,
    durationNs,
    listed,
    subgraphsInHive,
  };
}

/** A GraphQL request whose root span has these attributes, to test views with any value. @param id makes the trace id */
export function rootWith(attributes: readonly KeyValue[], id: number): OtlpRequest {
  const startTimeUnixNano = BigInt(firstSecond) * 1_000_000_000n;
  const traceId = Buffer.alloc(16);
  traceId.writeUInt32BE(id + 1, 12);
  const span: Span = {
    traceId,
    spanId: Buffer.alloc(8, 1),
    name: 'graphql.operation',
    startTimeUnixNano,
    endTimeUnixNano: startTimeUnixNano,
    attributes: [yes('hive.graphql'), ...attributes],
    events: [],
    links: [],
  };
  return { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] };
}
