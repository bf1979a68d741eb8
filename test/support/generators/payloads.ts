import { Random } from './random.ts';
import { bytesField, fixed32Field, fixed64Field, messageField, stringField, varintField } from './wire.ts';

/** An encoded ExportTraceServiceRequest, and the ids of its traces in hex. */
export interface Payload {
  body: Buffer;
  traceIds: string[];
}

export interface PayloadOptions {
  spans: number;
  /** Other seeds give other trace ids. The same seed and `startMs` give the same bytes. */
  seed: number;
  /** Start of the first trace, in Unix ms. By default now, as a table's TTL may drop older rows. */
  startMs?: number;
}

interface Operation {
  name: string;
  document: string;
  subgraph: string;
  client: string;
}

const OPERATIONS: Operation[] = [
  {
    name: 'TopProducts',
    subgraph: 'products',
    client: 'web',
    document: 'query TopProducts($first:Int){topProducts(first:$first){id name price}}',
  },
  {
    name: 'ProductById',
    subgraph: 'products',
    client: 'web',
    document: 'query ProductById($id:ID!){product(id:$id){id name price weight}}',
  },
  {
    name: 'Reviews',
    subgraph: 'reviews',
    client: 'web',
    document: 'query Reviews($upc:ID!){product(id:$upc){reviews{id body rating author{id}}}}',
  },
  { name: 'Me', subgraph: 'accounts', client: 'ios', document: '{me{id username name birthday}}' },
  {
    name: 'Cart',
    subgraph: 'orders',
    client: 'ios',
    document: 'query Cart{me{cart{items{product{id name price}quantity}total currency}}}',
  },
  {
    name: 'AddToCart',
    subgraph: 'orders',
    client: 'android',
    document: 'mutation AddToCart($id:ID!,$n:Int!){addToCart(product:$id,quantity:$n){total}}',
  },
  {
    name: 'Search',
    subgraph: 'search',
    client: 'web',
    document: 'query Search($q:String!){search(query:$q){total hits{__typename ...on Product{name}}}}',
  },
  { name: 'Stock', subgraph: 'inventory', client: 'backoffice', document: 'query Stock($upcs:[ID!]!){products(upcs:$upcs){upc inStock}}' },
];

/** One request in this many fails in a subgraph, with an exception event and an error status. */
const FAILURE_EVERY = 8;

const STACKTRACE = [
  'GraphQLError: Unexpected error.',
  '    at createGraphQLError (file:///app/node_modules/@graphql-tools/utils/esm/errors.js:29:11)',
  '    at file:///app/node_modules/@graphql-tools/executor-http/dist/index.js:765:33',
  '    at Array.map (<anonymous>)',
  '    at file:///app/node_modules/@graphql-tools/executor-http/dist/index.js:761:53',
  '    at process.processTicksAndRejections (node:internal/process/task_queues:104:5)',
].join('\n');

// ── Hive Gateway's JSON ──────────────────────────────────────────────────────────────────────────────────────────

const text = (key: string, value: string) => `{"key":"${key}","value":{"stringValue":${JSON.stringify(value)}}}`;
const int = (key: string, value: number) => `{"key":"${key}","value":{"intValue":${value}}}`;
const yes = (key: string) => `{"key":"${key}","value":{"boolValue":true}}`;
const list = (key: string, values: string[]) =>
  `{"key":"${key}","value":{"arrayValue":{"values":[${values.map((value) => `{"stringValue":${JSON.stringify(value)}}`).join(',')}]}}}`;
/** The gateway exports an attribute that is undefined as a key with an empty value. */
const nothing = (key: string) => `{"key":"${key}","value":{}}`;

function gatewayResource(random: Random): string {
  const replica = random.hex(1);
  const attributes = [
    int('process.pid', 7096),
    text('process.executable.name', 'node_modules/.bin/node'),
    text('process.executable.path', '/app/node_modules/node/bin/node'),
    list('process.command_args', [
      '/app/node_modules/node/bin/node',
      '/app/node_modules/.bin/hive-gateway',
      'supergraph',
      'http://cdn.example.com/artifacts/v1/supergraph',
      '--port',
      '4000',
      '--hive-target',
      'my-org/my-project/production',
      '--hive-trace-endpoint',
      'http://collector:4318/v1/traces',
    ]),
    text('process.runtime.version', '24.21.0'),
    text('process.runtime.name', 'nodejs'),
    text('process.runtime.description', 'Node.js'),
    text('process.command', '/app/node_modules/.bin/hive-gateway'),
    text('process.owner', 'node'),
    text('service.instance.id', `${random.hex(1)}-8abe-4553-b492-${random.hex(1)}${replica.slice(4)}`),
    text('os.type', 'linux'),
    text('os.version', '6.8.0-generic'),
    text('host.name', `hive-gateway-6d5f7c9b8-${replica.slice(3)}`),
    text('host.arch', 'amd64'),
    text('host.id', random.hex(4)),
    text('container.id', random.hex(4)),
    text('service.name', 'hive-gateway'),
    text('service.version', '2.15.1'),
    text('hive.otel.version', '1.5.3'),
  ];
  return `{"attributes":[${attributes.join(',')}],"droppedAttributesCount":0}`;
}

interface JsonSpan {
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: 1 | 3;
  startMs: number;
  durationNs: number;
  attributes: string[];
  status: string;
  events?: string;
}

function gatewaySpan(traceId: string, span: JsonSpan): string {
  const endMs = span.startMs + Math.floor(span.durationNs / 1e6);
  const endNs = String(span.durationNs % 1e6).padStart(6, '0');
  const parent = span.parentSpanId === undefined ? '' : `"parentSpanId":"${span.parentSpanId}",`;
  return (
    `{"traceId":"${traceId}","spanId":"${span.spanId}",${parent}"name":"${span.name}","kind":${span.kind},` +
    `"startTimeUnixNano":"${span.startMs}000000","endTimeUnixNano":"${endMs}${endNs}",` +
    `"attributes":[${span.attributes.join(',')}],"droppedAttributesCount":0,"events":[${span.events ?? ''}],"droppedEventsCount":0,` +
    `"status":${span.status},"links":[],"droppedLinksCount":0,"flags":257}`
  );
}

const FAILED = [int('hive.graphql.error.count', 1), list('hive.graphql.error.codes', ['INTERNAL_SERVER_ERROR'])];
const SUCCEEDED = [nothing('hive.graphql.error.codes'), nothing('hive.graphql.error.count')];

/** The attributes that all requests of an operation have in common. */
const OPERATION_TEXTS = OPERATIONS.map((operation) => {
  const document = text('graphql.document', operation.document);
  const type = text('graphql.operation.type', operation.document.startsWith('mutation') ? 'mutation' : 'query');
  const name = text('graphql.operation.name', operation.name);
  const subgraphs = list('hive.gateway.operation.subgraph.names', [operation.subgraph]);
  const fetch = [
    text('http.method', 'POST'),
    text('http.url', `http://${operation.subgraph}.internal:4001/graphql`),
    text('net.host.name', `${operation.subgraph}.internal`),
    text('http.host', `${operation.subgraph}.internal:4001`),
    text('http.route', '/graphql'),
    text('http.scheme', 'http:'),
    int('http.status_code', 200),
  ];
  const request = [
    text('gateway.cache.response_cache', 'miss'),
    text('http.method', 'POST'),
    text('http.url', 'http://gateway.example.com/graphql'),
    text('http.route', '/graphql'),
    text('http.scheme', 'http:'),
    text('net.host.name', 'gateway.example.com'),
    text('http.host', 'gateway.example.com'),
    text('http.user_agent', 'curl/7.88.1'),
    text('hive.client.name', operation.client),
    yes('hive.request'),
    int('http.status_code', 200),
  ];
  return {
    parse: [document, type, name],
    validate: [type, name],
    fetch,
    subgraphName: `subgraph.execute (${operation.subgraph})`,
    subgraph: [name, document, type, text('hive.gateway.upstream.subgraph.name', operation.subgraph), yes('hive.upstream'), ...fetch],
    execute: [type, name, subgraphs],
    rootName: `graphql.operation ${operation.name}`,
    root: [yes('hive.graphql'), document, name, type, subgraphs, ...request],
  };
});

function exception(atMs: number): string {
  const attributes = [
    text('exception.type', 'GraphQLError'),
    text('exception.message', 'Unexpected error.'),
    text('exception.stacktrace', STACKTRACE),
  ];
  return `{"attributes":[${attributes.join(',')}],"name":"exception","timeUnixNano":"${atMs}444327","droppedAttributesCount":0}`;
}

/** The seven spans of one GraphQL request, in the order they end: the root span comes last. */
function gatewayTrace(random: Random, traceId: string, startMs: number, failed: boolean): string[] {
  const texts = random.pick(OPERATION_TEXTS);
  const root = random.hex(2);
  const execute = random.hex(2);
  const subgraph = random.hex(2);
  const outcome = failed ? FAILED : SUCCEEDED;
  const identity = [
    text('hive.graphql.operation.hash', random.hex(4)),
    text('hive.client.version', `1.${random.below(20)}`),
    text('hive.request.id', `${random.hex(1)}-33c0-4e13-8f5c-${random.hex(1)}d1e2`),
  ];
  const span = (longestNs: number, rest: Omit<JsonSpan, 'spanId' | 'durationNs' | 'status'> & Partial<JsonSpan>) =>
    gatewaySpan(traceId, { spanId: random.hex(2), status: '{"code":0}', durationNs: 50_000 + random.below(longestNs), ...rest });
  return [
    span(1e6, { parentSpanId: root, name: 'graphql.parse', kind: 1, startMs: startMs + 1, attributes: texts.parse }),
    span(3e6, { parentSpanId: root, name: 'graphql.validate', kind: 1, startMs: startMs + 2, attributes: texts.validate }),
    span(5e5, { parentSpanId: root, name: 'graphql.context', kind: 1, startMs: startMs + 2, attributes: [] }),
    span(8e6, { parentSpanId: subgraph, name: 'http.fetch', kind: 3, startMs: startMs + 3, attributes: texts.fetch, status: '{"code":1}' }),
    span(9e6, {
      spanId: subgraph,
      parentSpanId: execute,
      name: texts.subgraphName,
      kind: 3,
      startMs: startMs + 3,
      attributes: texts.subgraph,
    }),
    span(1e7, {
      spanId: execute,
      parentSpanId: root,
      name: 'graphql.execute',
      kind: 1,
      startMs: startMs + 3,
      attributes: failed ? [...texts.execute, ...FAILED] : texts.execute,
      ...(failed && { status: '{"code":2,"message":"Unexpected error."}', events: exception(startMs + 12) }),
    }),
    span(2e7, { spanId: root, name: texts.rootName, kind: 1, startMs, attributes: [...texts.root, ...outcome, ...identity] }),
  ];
}

/** OTLP/JSON as Hive Gateway 2.15 sends it: one resource, one scope, about 857 bytes a span, seven spans a trace. */
export function hiveGatewayBatch({ spans, seed, startMs = Date.now() }: PayloadOptions): Payload {
  const random = new Random(seed);
  const resource = gatewayResource(random);
  const traceIds: string[] = [];
  const spanTexts: string[] = [];
  while (spanTexts.length < spans) {
    const traceId = random.hex(4);
    const failed = traceIds.length % FAILURE_EVERY === 1;
    spanTexts.push(...gatewayTrace(random, traceId, startMs + traceIds.length * 3, failed).slice(0, spans - spanTexts.length));
    traceIds.push(traceId);
  }
  const body = `{"resourceSpans":[{"resource":${resource},"scopeSpans":[{"scope":{"name":"gateway"},"spans":[${spanTexts.join(',')}]}]}]}`;
  return { body: Buffer.from(body), traceIds };
}

// ── The same gateway's spans as Protobuf ─────────────────────────────────────────────────────────────────────────

const stringValue = (value: string) => stringField(1, value);
const intValue = (value: number) => varintField(3, value);
const attribute = (fieldNumber: number, key: string, value: Buffer) =>
  messageField(fieldNumber, [stringField(1, key), bytesField(2, value)]);

/** Span.attributes (field 9), encoded once: spans differ only in ids and times. */
const SPAN_ATTRIBUTES = OPERATIONS.map(({ name, document, subgraph }) =>
  Buffer.concat([
    attribute(9, 'graphql.document', stringValue(document)),
    attribute(9, 'graphql.operation.name', stringValue(name)),
    attribute(9, 'hive.gateway.upstream.subgraph.name', stringValue(subgraph)),
    attribute(9, 'http.user_agent', stringValue('Mozilla/5.0 (Linux) Gecko/20100101')),
    attribute(9, 'http.url', stringValue(`http://${subgraph}.internal:4001/graphql`)),
    attribute(9, 'http.status_code', intValue(200)),
  ]),
);

const SPAN_SHAPES = [
  { name: 'graphql.operation', kind: 2 },
  { name: 'graphql.execute', kind: 1 },
  { name: 'subgraph.execute', kind: 3 },
  { name: 'http.fetch', kind: 3 },
].map(({ name, kind }) => Buffer.concat([stringField(5, name), varintField(6, kind)]));

const STATUS_OK = messageField(15, [varintField(3, 1)]);
const FLAGS = fixed32Field(16, 257);
const SPANS_PER_TRACE = 7;

function resourceAttributes(random: Random): Buffer[] {
  const attributes = {
    'service.name': 'hive-gateway',
    'service.version': '2.15.1',
    'service.instance.id': `${random.hex(1)}-8abe-4553-b492-${random.hex(1)}91e9`,
    'host.name': `hive-gateway-6d5f7c9b8-${random.hex(1)}`,
    'host.arch': 'amd64',
    'host.id': random.hex(4),
    'os.type': 'linux',
    'os.version': '6.8.0-generic',
    'process.runtime.name': 'nodejs',
    'process.runtime.version': '24.21.0',
    'process.command': '/app/node_modules/.bin/hive-gateway',
    'container.id': random.hex(4),
    'k8s.pod.name': `hive-gateway-6d5f7c9b8-${random.hex(1)}`,
  };
  const encoded = Object.entries(attributes).map(([key, value]) => attribute(1, key, stringValue(value)));
  return [...encoded, attribute(1, 'process.pid', intValue(7096))];
}

/** OTLP as Protobuf: one resource with 14 attributes, spans with 6, about 400 bytes a span, seven spans a trace. */
export function gatewayProtobuf({ spans, seed, startMs = Date.now() }: PayloadOptions): Payload {
  const random = new Random(seed);
  const traceIds: string[] = [];
  const encodedSpans: Buffer[] = [];
  let traceId: Buffer = Buffer.alloc(16);
  let parentId: Buffer | undefined;
  for (let index = 0; index < spans; index++) {
    if (index % SPANS_PER_TRACE === 0) {
      traceId = random.bytes(16);
      traceIds.push(traceId.toString('hex'));
      parentId = undefined;
    }
    const spanId = random.bytes(8);
    const startNs = BigInt(startMs + index) * 1_000_000n + BigInt(random.below(1e6));
    const fields = [
      bytesField(1, traceId),
      bytesField(2, spanId),
      ...(parentId === undefined ? [] : [bytesField(4, parentId)]),
      SPAN_SHAPES[index % SPAN_SHAPES.length],
      fixed64Field(7, startNs),
      fixed64Field(8, startNs + BigInt(random.below(50e6))),
      random.pick(SPAN_ATTRIBUTES),
      STATUS_OK,
      FLAGS,
    ];
    encodedSpans.push(messageField(2, fields));
    parentId = spanId;
  }
  const scopeSpans = messageField(2, [messageField(1, [stringField(1, 'gateway')]), ...encodedSpans]);
  const body = messageField(1, [messageField(1, resourceAttributes(random)), scopeSpans]);
  return { body, traceIds };
}
