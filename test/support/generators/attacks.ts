import { grpcClient } from '../clients/grpc-client.ts';
import { abandonedCall, PREFACE } from '../clients/http2-frames.ts';
import { callOne, nextRequest, type Sent } from '../clients/load.ts';
import type { Headers } from '../clients/otlp-client.ts';
import { connectRaw, head } from '../clients/raw-socket.ts';
import type { Collector } from '../servers/collector.ts';

/*
 * Requests that must be refused. No two of them have the same traces, so that tests can check that none is stored. Over HTTP/1.1, a valid
 * request follows each on the same connection: it must be either answered 200 and stored, or neither of the two.
 */

/** Sends such requests. Resolves with all requests and their outcomes. */
type Attack = (collector: Collector) => Promise<readonly Sent[]>;

type HeaderLists = Parameters<typeof head>[0];

const TARGET = { 'x-hive-target-ref': 'target-1' };
const FOREIGN_PAGE = { origin: 'https://elsewhere.example' };
const CONNECTIONS = 20;
const WITHHELD_BYTES = 10;
/** Some more than may be reset in one read (src/grpc/reset-watch.ts). Together they are smaller than HTTP/2's initial window of 64 KB. */
const RESET_CALLS = 18;

export const attacks: Readonly<Record<string, Attack>> = {
  'a foreign Origin, the last ten bytes only after the answer': (collector) =>
    times(() => refusedThenGood(collector, FOREIGN_PAGE, { lateBytes: WITHHELD_BYTES })),
  'a foreign Origin': (collector) => times(() => refusedThenGood(collector, FOREIGN_PAGE)),
  'two headers Host': (collector) => times(() => refusedThenGood(collector, { host: ['collector', 'elsewhere.example'] })),
  'a Content-Length over the limit': (collector) =>
    times(() => refusedThenGood(collector, { 'content-length': String(2_000 * 1024 ** 2) })),
  'a body that lacks its last byte': (collector) => times(() => refusedThenGood(collector, {}, { lackingBytes: 1 })),
  'a foreign Origin over gRPC': (collector) => times(() => foreignCall(collector)),
  'calls of gRPC that are reset before their last ten bytes': (collector) => times(() => abandonedCalls(collector)),
};

async function times(attack: () => Promise<readonly Sent[]>): Promise<readonly Sent[]> {
  return (await Promise.all(Array.from({ length: CONNECTIONS }, attack))).flat();
}

/**
 * Sends a request with `headers`, and a valid one after it.
 * @param options `lateBytes` at the end of the first request are sent only after its answer; `lackingBytes` are not sent
 */
async function refusedThenGood(
  collector: Collector,
  headers: HeaderLists,
  { lateBytes = 0, lackingBytes = 0 } = {},
): Promise<readonly Sent[]> {
  using socket = await connectRaw(collector.url);
  const [refused, good] = [nextRequest(), nextRequest()];
  const body = refused.body.subarray(0, refused.body.length - lackingBytes);
  const bytes = Buffer.concat([Buffer.from(headOf(refused.type, body, headers)), body]);
  const behind = Buffer.concat([Buffer.from(headOf(good.type, good.body)), good.body]);
  const onTime = bytes.length - lateBytes;
  const nextOutcome = () =>
    socket.nextWholeAnswer().then(
      ({ status }) => status,
      () => 'no answer',
    );

  const sentAtMs = performance.now();
  socket.write(lateBytes > 0 ? bytes.subarray(0, onTime) : Buffer.concat([bytes, behind]));
  const first = await nextOutcome();
  if (lateBytes > 0) socket.write(Buffer.concat([bytes.subarray(onTime), behind]));
  const second = await nextOutcome();
  return [
    { traceIds: refused.traceIds, outcome: first, retryAfter: undefined, sentAtMs },
    { traceIds: good.traceIds, outcome: second, retryAfter: undefined, sentAtMs },
  ];
}

function headOf(type: Headers, body: Buffer, headers: HeaderLists = {}): string {
  return head({ ...TARGET, ...type, 'content-length': String(body.length), ...headers });
}

async function foreignCall(collector: Collector): Promise<readonly Sent[]> {
  using client = grpcClient(collector.grpcPort!);
  return [await callOne(client, FOREIGN_PAGE)];
}

async function abandonedCalls(collector: Collector): Promise<readonly Sent[]> {
  using socket = await connectRaw(`http://127.0.0.1:${collector.grpcPort}`);
  const requests = Array.from({ length: RESET_CALLS }, () => nextRequest(1, false));
  const sentAtMs = performance.now();
  socket.write(Buffer.concat([PREFACE, ...requests.map(({ body }, index) => abandonedCall(1 + 2 * index, body, WITHHELD_BYTES))]));
  socket.end();
  await socket.closed;
  return requests.map(({ traceIds }) => ({ traceIds, outcome: 'reset', retryAfter: undefined, sentAtMs }));
}
