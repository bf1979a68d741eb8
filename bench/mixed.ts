import { setTimeout as delay } from 'node:timers/promises';
import { attacks } from '../test/support/generators/attacks.ts';
import type { TestClickHouse } from '../test/support/servers/clickhouse.ts';
import { type Collector, until } from '../test/support/servers/collector.ts';
import { grpcClient } from '../test/support/clients/grpc-client.ts';
import { measureUnderLoad } from '../test/support/clients/health-probe.ts';
import { type HostileLoad, hostileLoads } from '../test/support/clients/hostile-load.ts';
import { callOne, outcomes, type Sent, SPANS_PER_TRACE, startLoad, storedTraces, type StoredTraces } from '../test/support/clients/load.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { Random } from '../test/support/generators/random.ts';

/*
 * Hostile loads and attacks, one after the other in random order, while good senders of another target export a few traces a second.
 * Every request of the good senders must be answered 200 and stored once; nothing else may be stored without a 200.
 */

/** These loads only show how much memory a body or a connection can take. */
const EXTREME_MEMORY = /a million|a string of 60 MB|10,000 idle|for comparison/;
/** Limits of the hostile target do not apply to it. */
const GOOD_TARGET = { 'x-hive-target-ref': 'target-good' };
const PAUSE_MS = 250;
/** No load should take half as long. One that takes longer continues while the next one runs. */
const LONGEST_LOAD_MS = 60_000;
/** Longer than ACK_TIMEOUT_MS and REQUEST_TIMEOUT_MS. */
const SETTLE_TIMEOUT_MS = 60_000;
const SETTLE_SECONDS = 5;
const SHOW_MS = 1_000;

export interface MixedOptions {
  readonly seconds: number;
  readonly seed: number;
}

export interface MixedResult {
  /** The figures to print, by name. */
  readonly table: Readonly<Record<string, number>>;
  /** Every good request was answered 200 and stored once, and nothing was stored that was not answered 200. */
  readonly isGood: boolean;
}

/** Runs for at least this many seconds, then compares the stored spans with the answers. Prints its progress on stderr. */
export async function runMixed(collector: Collector, clickhouse: TestClickHouse, { seconds, seed }: MixedOptions): Promise<MixedResult> {
  const startMs = performance.now();
  const good = startGoodSenders(collector);
  const hostile: Sent[] = [];
  let now = 'starting';
  let loadsRun = 0;
  using progress = startProgress('Runs hostile loads and attacks in random order, while good senders export.', {
    steps: 2,
    seconds: seconds + SETTLE_SECONDS,
  });
  const show = () => progress.tick(`${now}; ${loadsRun} loads run; good requests: ${tally(good.sent())}; attacks: ${tally(hostile)}`);
  const showing = setInterval(show, SHOW_MS);
  progress.step('hostile loads', seconds);

  const health = await measureUnderLoad(collector, async () => {
    for (const [name, load] of endless(new Random(seed), hostile)) {
      if (performance.now() - startMs > seconds * 1000) return;
      now = name;
      const ended = load(collector).catch((error: NodeJS.ErrnoException) => {
        // A refusal may end with a connection that is cut.
        if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') progress.line(`${name}: ${error.stack}`);
      });
      const isLate = await Promise.race([ended.then(() => false), delay(LONGEST_LOAD_MS, true, { ref: false })]);
      if (isLate) progress.line(`${name}: not over after ${LONGEST_LOAD_MS} ms`);
      loadsRun++;
    }
  });
  now = 'over';
  progress.step('waiting for the last answers and inserts', SETTLE_SECONDS);
  const isOver = await Promise.race([good.stop().then(() => true), delay(SETTLE_TIMEOUT_MS, false, { ref: false })]);
  if (!isOver) progress.line('a good sender still waits for its answer');
  const settled = until(async () => isIdle(collector), 'nothing is in hand', SETTLE_TIMEOUT_MS);
  await settled.catch((error: unknown) => progress.line(String(error)));
  clearInterval(showing);
  progress.clear();

  const { isGood, counts } = judge(good.sent(), hostile, await storedTraces(clickhouse));
  return {
    isGood: isGood && isOver,
    table: {
      seconds: Math.round((performance.now() - startMs) / 1000),
      'loads and attacks run': loadsRun,
      ...counts,
      'polls of /health': health.polls,
      'polls that failed': health.failed,
      '/health p50 ms': Math.round(health.p50Ms * 10) / 10,
      '/health p99 ms': Math.round(health.p99Ms),
      '/health worst ms': Math.round(health.maxMs),
      'CPU of the event loop in a poll, most ms': Math.round(health.cpuMaxMs),
      'event-loop lag, worst ms': Math.round(health.loopMaxMs),
      'peak memory MB': Math.round(health.peakRssMb),
    },
  };
}

/** Compares the stored spans with the answers. */
export function judge(
  good: readonly Sent[],
  hostile: readonly Sent[],
  stored: StoredTraces,
): { readonly isGood: boolean; readonly counts: Readonly<Record<string, number>> } {
  const tracesOf = ({ traceIds }: Sent) => traceIds.map((traceId) => stored.get(traceId) ?? { spans: 0, distinct: 0 });
  const isStoredOnce = (sent: Sent) =>
    tracesOf(sent).every(({ spans, distinct }) => spans === SPANS_PER_TRACE && distinct === SPANS_PER_TRACE);
  const answered = count(good, isAnswered);
  const storedOnce = count(good, isStoredOnce);
  const storedTwice = count(good, (one) => tracesOf(one).some(({ spans, distinct }) => spans > distinct));
  const unanswered = count([...good, ...hostile], (one) => !isAnswered(one) && tracesOf(one).some(({ spans }) => spans > 0));
  const hostileAnswered = count(hostile, isAnswered);
  const hostileLost = count(hostile, (one) => isAnswered(one) && !isStoredOnce(one));
  return {
    isGood: answered === good.length && storedOnce === good.length && storedTwice + unanswered + hostileLost === 0,
    counts: {
      'good requests sent': good.length,
      'good requests answered 200': answered,
      'good requests answered otherwise': good.length - answered,
      'good requests stored exactly once': storedOnce,
      'good requests stored twice': storedTwice,
      'requests of attacks': hostile.length,
      'requests of attacks answered 200': hostileAnswered,
      'and of these not stored exactly once': hostileLost,
      'requests stored without a 200': unanswered,
    },
  };
}

function tally(sent: readonly Sent[]): string {
  return JSON.stringify(outcomes(sent));
}

function isAnswered({ outcome }: Sent): boolean {
  return outcome === 200;
}

function count(sent: readonly Sent[], condition: (one: Sent) => boolean): number {
  return sent.reduce((sum, one) => sum + Number(condition(one)), 0);
}

/** Yields every load once in random order, each followed by an attack; then all of them again in another order, without an end. */
function* endless(random: Random, sent: Sent[]): Generator<[string, HostileLoad]> {
  const loads = Object.entries(hostileLoads).filter(([name]) => !EXTREME_MEMORY.test(name));
  const attackLoads = Object.entries(attacks).map(([name, attack]): [string, HostileLoad] => [
    name,
    async (collector) => sent.push(...(await attack(collector))),
  ]);
  for (;;) {
    const inTurn = random.shuffled(attackLoads);
    for (const [index, load] of random.shuffled(loads).entries()) {
      yield load;
      yield inTurn[index % inTurn.length];
    }
  }
}

/** Two senders over HTTP, alternating JSON and Protobuf, and one over gRPC. Each has its own connection, and waits for each answer. */
function startGoodSenders(collector: Collector): { sent(): readonly Sent[]; stop(): Promise<unknown> } {
  const http = startLoad(collector.url, { senders: 2, tracesPerRequest: 1, headers: GOOD_TARGET, pauseMs: PAUSE_MS, retryMs: PAUSE_MS });
  const calls: Sent[] = [];
  const stopping = new AbortController();
  const grpc = (async () => {
    using client = grpcClient(collector.grpcPort!);
    while (!stopping.signal.aborted) {
      calls.push(await callOne(client, GOOD_TARGET));
      await delay(PAUSE_MS);
    }
  })();
  return {
    sent: () => [...http.sent, ...calls],
    stop() {
      stopping.abort();
      return Promise.all([http.stop(), grpc]);
    },
  };
}

async function isIdle(collector: Collector): Promise<boolean> {
  const metrics = await collector.metrics();
  return ['hive_collector_requests_in_hand', 'hive_collector_memory_used_bytes', 'hive_collector_buffered_spans'].every(
    (name) => metrics.get(name) === 0,
  );
}
