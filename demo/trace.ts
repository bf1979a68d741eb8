import type { Chance } from './chance.ts';
import { type Attribute, attributes, CLIENT, ERROR, INTERNAL, nanoseconds, OK, type OtlpSpan, UNSET } from './otlp.ts';
import { INCIDENT, OPERATIONS, type Operation, type Subgraph, SUBGRAPHS } from './shop.ts';

export interface TraceOptions {
  /** How much of the time is over, 0 to 1: in between is the incident. */
  readonly progress: number;
  /** The first 8 digits of the trace's id: each run's own, as the rest is the same for the same seed. */
  readonly idPrefix: string;
  /** When the GraphQL request was answered, in ms since 1970. */
  readonly endMs: number;
}

/** A span whose times are ms since the request came. */
interface Step extends Pick<OtlpSpan, 'spanId' | 'parentSpanId' | 'name' | 'kind' | 'attributes'> {
  readonly fromMs: number;
  readonly toMs: number;
  readonly code?: number;
  readonly failure?: string;
}

/**
 * The spans that Hive Gateway makes of one GraphQL request, in the order they end:
 *
 *   graphql.operation ProductPage
 *   ├ graphql.parse, graphql.validate, graphql.plan
 *   └ graphql.execute
 *     ├ subgraph.execute (products)
 *     │ └ http.fetch
 *     └ …
 */
export function graphqlRequest(chance: Chance, { progress, idPrefix, endMs }: TraceOptions): OtlpSpan[] {
  const operation = chance.pick(OPERATIONS);
  const traceId = idPrefix + chance.hex(24);
  const rootId = chance.hex(16);
  const named = attributes({ 'graphql.operation.type': operation.type, 'graphql.operation.name': operation.name });
  const document = attributes({ 'graphql.document': operation.document });

  const steps: Step[] = [];
  let nowMs = chance.latency(0.3);
  for (const [phase, typicalMs] of [
    ['parse', 0.3],
    ['validate', 0.6],
    ['plan', 0.8],
  ] as const) {
    const toMs = nowMs + chance.latency(typicalMs);
    steps.push({
      spanId: chance.hex(16),
      parentSpanId: rootId,
      name: `graphql.${phase}`,
      kind: INTERNAL,
      fromMs: nowMs,
      toMs,
      attributes: phase === 'parse' ? [...document, ...named] : named,
    });
    nowMs = toMs;
  }
  const execution = execute(chance, operation, rootId, nowMs, progress, [...document, ...named]);
  steps.push(...execution);
  const { toMs, failure } = execution.at(-1)!;
  const doneMs = toMs + chance.latency(0.2);
  const rootAttributes = [...document, ...named, ...httpRequest(chance, operation), ...outcome(failure)];
  steps.push({
    spanId: rootId,
    name: `graphql.operation ${operation.name}`,
    kind: INTERNAL,
    fromMs: 0,
    toMs: doneMs,
    attributes: rootAttributes,
  });
  return steps.map((step) => spanOf(step, traceId, endMs - doneMs));
}

/** The steps of the query plan; `graphql.execute` comes last. An error ends the plan after its step. */
function execute(
  chance: Chance,
  operation: Operation,
  rootId: string,
  fromMs: number,
  progress: number,
  described: readonly Attribute[],
): Step[] {
  const executeId = chance.hex(16);
  const steps: Step[] = [];
  let nowMs = fromMs;
  let failure: string | undefined;
  for (const subgraphs of operation.plan) {
    const fetches = subgraphs.map((subgraph) => fetchSubgraph(chance, subgraph, executeId, nowMs, progress, described));
    steps.push(...fetches.flat());
    nowMs = Math.max(...fetches.flat().map(({ toMs }) => toMs)) + chance.latency(0.1);
    failure = fetches.flat().find((step) => step.failure !== undefined)?.failure;
    if (failure !== undefined) break;
  }
  const names = attributes({ 'hive.gateway.operation.subgraph.names': [...new Set(operation.plan.flat())] });
  const attributesOfAll = [...described.slice(1), ...names, ...(failure === undefined ? [] : outcome(failure))];
  return [
    ...steps,
    {
      spanId: executeId,
      parentSpanId: rootId,
      name: 'graphql.execute',
      kind: INTERNAL,
      fromMs,
      toMs: nowMs,
      attributes: attributesOfAll,
      failure,
    },
  ];
}

/** `http.fetch`, and `subgraph.execute` around it. */
function fetchSubgraph(
  chance: Chance,
  subgraph: Subgraph,
  executeId: string,
  fromMs: number,
  progress: number,
  described: readonly Attribute[],
): [Step, Step] {
  const { typicalMs, errorRate } = SUBGRAPHS[subgraph];
  const broken = subgraph === INCIDENT.subgraph && progress >= INCIDENT.from && progress < INCIDENT.to;
  const spanId = chance.hex(16);
  const answeredMs = fromMs + chance.latency(broken ? typicalMs * INCIDENT.slower : typicalMs);
  const failed = chance.next() < (broken ? INCIDENT.errorRate : errorRate);
  const http = attributes({
    'http.method': 'POST',
    'http.url': `http://${subgraph}.internal:4001/graphql`,
    'http.host': `${subgraph}.internal:4001`,
    'http.route': '/graphql',
    'http.status_code': failed ? 503 : 200,
  });
  const upstream = attributes({ 'hive.gateway.upstream.subgraph.name': subgraph, 'hive.upstream': true });
  const failure = failed ? `The subgraph ${subgraph} answered 503.` : undefined;
  return [
    {
      spanId: chance.hex(16),
      parentSpanId: spanId,
      name: 'http.fetch',
      kind: CLIENT,
      fromMs: fromMs + 0.05,
      toMs: answeredMs,
      attributes: http,
      code: failed ? ERROR : OK,
    },
    {
      spanId,
      parentSpanId: executeId,
      name: `subgraph.execute (${subgraph})`,
      kind: CLIENT,
      fromMs,
      toMs: answeredMs + 0.1,
      attributes: [...described, ...upstream, ...http],
      failure,
    },
  ];
}

function httpRequest(chance: Chance, { client }: Operation): Attribute[] {
  return attributes({
    'hive.graphql': true,
    'hive.request': true,
    'hive.client.name': client,
    'hive.client.version': `1.${chance.below(4)}`,
    'hive.request.id': `${chance.hex(8)}-33c0-4e13-8f5c-${chance.hex(12)}`,
    'http.method': 'POST',
    'http.url': 'http://gateway.example.com/graphql',
    'http.host': 'gateway.example.com',
    'http.route': '/graphql',
    'http.status_code': 200,
  });
}

function outcome(failure: string | undefined): Attribute[] {
  return attributes({
    'hive.graphql.error.count': failure === undefined ? undefined : 1,
    'hive.graphql.error.codes': failure === undefined ? undefined : ['DOWNSTREAM_SERVICE_ERROR'],
  });
}

function spanOf({ fromMs, toMs, code, failure, ...step }: Step, traceId: string, startMs: number): OtlpSpan {
  const exception = attributes({ 'exception.type': 'GraphQLError', 'exception.message': failure });
  return {
    ...step,
    traceId,
    startTimeUnixNano: nanoseconds(startMs + fromMs),
    endTimeUnixNano: nanoseconds(startMs + toMs),
    events: failure === undefined ? [] : [{ name: 'exception', timeUnixNano: nanoseconds(startMs + toMs), attributes: exception }],
    status: failure === undefined ? { code: code ?? UNSET } : { code: ERROR, message: failure },
  };
}
