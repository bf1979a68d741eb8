import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { expectStoredAsAnswered, outcomes, type Sent, SPANS_PER_TRACE, startLoad } from '../support/clients/load.ts';
import { Random } from '../support/generators/random.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/*
 * Kills whatever can be killed, at random moments under load, and holds what ClickHouse has against what was
 * acknowledged. A short run is part of the tests; `npm run chaos -- --seconds 600 --seed 7` is a long one.
 *
 * A materialized view counts along. A ClickHouse that is killed notes that the view's part is there before it is
 * (src/storage/lost-rows.ts), and nobody can repeat an insert into a view alone: it may miss an insert then, or count it
 * twice. So in some runs ClickHouse is terminated where it is killed in others, and the view has to be right.
 */

const SECONDS = Number(process.env.CHAOS_SECONDS ?? 15);
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const MODES = ['disk buffer', 'memory'].filter((mode) => mode === (process.env.CHAOS_MODE ?? mode));
/** The small one is full after a few seconds without ClickHouse. */
const RING_MB = ['1', '8'];

const RING_FILLS_MS = 8_000;

const title = `%s: loses nothing that was acknowledged, and stores nothing twice (--seed ${SEED})`;
test.each(MODES)(title, { timeout: (SECONDS + 240) * 1000 }, async (mode) => {
  const random = new Random(SEED);
  const dir = mkdtempSync(join(tmpdir(), 'chaos-'));
  await using clickhouse = await startClickHouse();
  const [port, healthPort, healthcheckPort] = await freePorts(3);
  const env = {
    PORT: String(port),
    HEALTH_PORT: String(healthPort),
    HEALTHCHECK_PORT: String(healthcheckPort),
    ...(mode === 'memory'
      ? // Shorter than some outages: inserts are abandoned.
        { ACK_TIMEOUT_MS: String(random.pick([3_000, 8_000])) }
      : {
          ENABLE_DISK_BUFFER: 'true',
          DISK_BUFFER_DIR: dir,
          DISK_BUFFER_MAX_SIZE_MB: random.pick(RING_MB),
          DISK_BUFFER_SYNC: random.pick(['none', 'interval', 'always']),
        }),
    BATCH_TIMEOUT_MS: String(random.pick([50, 200, 1000])),
    BATCH_MAX_SPANS: String(random.pick([200, 2_000, 100_000])),
    SHUTDOWN_TIMEOUT_MS: '3000',
  };
  const clickhouseEnds = random.pick(['killed', 'killed', 'terminated']);
  let collector = await startCollector({ clickhouse, env });
  await countInAView(clickhouse);
  const load = startLoad(collector.url, { senders: 12, tracesPerRequest: 3, pauseMs: 5 });
  const happened: Record<string, number> = {};
  let clickhouseIsUp = true;
  let ringFullest = 0;
  /** Inserts that a killed ClickHouse had lost. */
  let restored = 0;

  const endClickHouse = () => (clickhouseEnds === 'killed' ? clickhouse.kill() : clickhouse.stop());
  const restartCollector = async () => {
    restored += restoredInserts(collector);
    collector = await startCollector({ env: { ...env, CLICKHOUSE_URL: clickhouse.url } });
  };
  const restartClickHouse = async () => {
    await clickhouse.restart();
    clickhouseIsUp = true;
  };
  const events: Record<string, () => Promise<void>> = {
    'collector killed': async () => {
      await collector.kill();
      await restartCollector();
    },
    'ClickHouse ended': async () => {
      await endClickHouse();
      await delay(random.between(0, 300));
      await restartClickHouse();
    },
    'both ended': async () => {
      await Promise.all([collector.kill(), endClickHouse()]);
      await Promise.all([restartCollector(), restartClickHouse()]);
    },
    'collector terminated': async () => {
      const { code } = await collector.stop('SIGTERM');
      expect(code).toBe(0);
      await restartCollector();
    },
    'ClickHouse paused': async () => {
      clickhouse.pause();
      await delay(random.between(100, 2000));
      clickhouse.resume();
    },
    'ClickHouse away, and the collector killed meanwhile': async () => {
      await endClickHouse();
      clickhouseIsUp = false;
      await delay(random.between(200, 1500));
      await collector.kill();
      await restartCollector();
      await delay(random.between(0, 1500));
      await restartClickHouse();
    },
  };
  const eventsOfRing: typeof events = {
    'ClickHouse away until the ring is full, and the collector killed then': async () => {
      await endClickHouse();
      clickhouseIsUp = false;
      const fullest = await fullRing(collector);
      ringFullest = Math.max(ringFullest, fullest);
      await collector.kill();
      await restartCollector();
      await delay(random.between(0, 500));
      await restartClickHouse();
    },
  };

  if (mode === 'disk buffer') Object.assign(events, eventsOfRing);

  try {
    const end = performance.now() + SECONDS * 1000;
    // On a slow machine it goes on until something was acknowledged that could have been lost.
    while (performance.now() < end || load.acknowledged() <= SECONDS) {
      await delay(random.between(50, 1200));
      const name = random.pick(Object.keys(events));
      happened[name] = (happened[name] ?? 0) + 1;
      await events[name]();
    }
    if (!clickhouseIsUp) await restartClickHouse();
    const sent = await load.stop();
    await drained(collector).catch(async (error: Error) => {
      const state = [...(await collector.metrics())].filter(([name]) => /queue|disk_buffer|insert/.test(name));
      throw new Error(`${error.message}: ${JSON.stringify(Object.fromEntries(state))}\n${collector.output()}`);
    });
    await expectStoredAsAnswered(clickhouse, sent).catch(async (error: unknown) => {
      throw new Error(`${JSON.stringify(happened)}\n${await traces(clickhouse, collector)}`, { cause: error });
    });
    const miscounted = await miscountedTraces(clickhouse, sent);
    if (clickhouseEnds === 'terminated') expect(miscounted).toEqual([]);
    const acknowledged = load.acknowledged();
    console.log(
      JSON.stringify({
        seed: SEED,
        settings: env,
        clickhouseEnds,
        ringFullest,
        happened,
        answers: outcomes(sent),
        acknowledged,
        lost: 0,
        twice: 0,
        insertsRestored: restored + restoredInserts(collector),
        miscountedByTheView: miscounted.length,
      }),
    );
  } finally {
    await load.stop();
    await collector.kill();
    rmSync(dir, { recursive: true });
  }
});

/** What may tell where acknowledged spans have gone: dead letters, and inserts that ClickHouse took for repeated ones. */
async function traces(clickhouse: TestClickHouse, collector: Collector): Promise<string> {
  const metrics = [...(await collector.metrics())].filter(([name]) => /dead|dropped|damage/.test(name));
  await clickhouse.command('SYSTEM FLUSH LOGS');
  const deduplicated = await clickhouse.query(
    `SELECT event_time_microseconds AS at, query_id, rows, part_name FROM system.part_log
     WHERE event_type = 'NewPart' AND error != 0 ORDER BY at`,
  );
  return `${JSON.stringify(Object.fromEntries(metrics))}\n${JSON.stringify(deduplicated)}\n${collector.output()}`;
}

function restoredInserts(collector: Collector): number {
  return collector.output().split('ClickHouse had lost rows').length - 1;
}

/** A view that would count a replayed insert twice, were it not told apart there too. */
async function countInAView(clickhouse: TestClickHouse): Promise<void> {
  // With the disk buffer the collector takes spans before it has created the table.
  await until(() => clickhouse.hasTable('otel_traces'), 'the table is there');
  await clickhouse.command(
    `CREATE TABLE counted (TraceId String, spans UInt64) ENGINE = MergeTree ORDER BY TraceId
     SETTINGS non_replicated_deduplication_window = 10000`,
  );
  await clickhouse.command(
    'CREATE MATERIALIZED VIEW counting TO counted AS SELECT TraceId, count() AS spans FROM otel_traces GROUP BY TraceId',
  );
}

/** Waits until the ring takes no more, for a few seconds at most. @returns its fill, 0 to 1 */
async function fullRing(collector: Collector): Promise<number> {
  let fill = 0;
  await until(
    async () => {
      const metrics = await collector.metrics();
      fill = metrics.get('hive_collector_disk_buffer_used_bytes')! / metrics.get('hive_collector_disk_buffer_capacity_bytes')!;
      return fill >= 0.95;
    },
    'the ring is full',
    RING_FILLS_MS,
  ).catch(() => {});
  return fill;
}

/** Waits until everything in the ring is in ClickHouse. @throws when no insert ends within a minute */
async function drained(collector: Collector): Promise<void> {
  let metrics = await collector.metrics();
  const isEmpty = () => metrics.get('otelcol_exporter_queue_size') === 0 && metrics.get('hive_collector_inserts_under_way') === 0;
  while (!isEmpty()) {
    const before = metrics.get('hive_collector_inserts_total')!;
    await until(async () => {
      metrics = await collector.metrics();
      return isEmpty() || metrics.get('hive_collector_inserts_total')! > before;
    }, 'the disk buffer is empty, or another insert has ended');
  }
}

/** Traces that the view has not counted, or counted twice. */
async function miscountedTraces(clickhouse: TestClickHouse, sent: readonly Sent[]) {
  const rows = await clickhouse.query<{ TraceId: string; spans: string }>(
    'SELECT TraceId, sum(spans) AS spans FROM counted GROUP BY TraceId',
  );
  const counted = new Map(rows.map(({ TraceId, spans }) => [TraceId, Number(spans)]));
  return sent
    .flatMap(({ traceIds, outcome }) => traceIds.map((traceId) => ({ traceId, outcome, spans: counted.get(traceId) ?? 0 })))
    .filter(({ outcome, spans }) => spans !== SPANS_PER_TRACE && (outcome === 200 || spans !== 0));
}
