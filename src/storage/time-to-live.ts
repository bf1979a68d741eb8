import type { ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { parseCall } from '../schema/column-type.ts';
import { distributedTable, shardTablesIfQueryable } from './distributed-table.ts';
import { select } from './select.ts';
import { columnsOf } from './table-columns.ts';
import { engineOf, type Engine } from './table-engine.ts';
import type { TableName } from './views.ts';

/**
 * The age from which the table's TTL drops rows immediately, calculated for the current time.
 * @param isNew whether the shards of a Distributed table are queried, if this server has no local table itself
 * @returns ms; Infinity without a TTL; undefined if it can't be determined
 * @throws ClickHouseError or a network error
 */
export async function findMaxRowAge(
  client: ClickHouseClient,
  { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config,
  isNew: boolean,
): Promise<number | undefined> {
  const name = { database, table };
  const engine = await engineOf(client, name);
  if (engine === undefined) return undefined;
  if (engine.engine !== 'Distributed') return maxRowAge(client, name, [engine]);
  const distributed = distributedTable(engine.engineFull);
  const local = await engineOf(client, distributed);
  if (local !== undefined) return maxRowAge(client, name, [local]);
  const tables = isNew ? await shardTablesIfQueryable(client, distributed) : [];
  return tables.length === 0 ? undefined : maxRowAge(client, name, tables);
}

/** One TTL of a table: rows are dropped `count` units after `from`. */
export interface TimeToLive {
  /** The span's start, the beginning of its day in the column's time zone, or its date. */
  readonly from: 'start' | 'day' | 'date';
  readonly count: number;
  /** The suffix of ClickHouse's toInterval…: 'Day'. */
  readonly unit: string;
}

const UNITS = 'Second|Minute|Hour|Day|Week|Month|Quarter|Year';
/** A TTL expression in engine_full of system.tables: the span's start, as a time or a date, and the interval added to it. */
const TTL_EXPRESSION = new RegExp(
  String.raw`^(?:(toDate|toDate32|toStartOfDay|toDateTime|toDateTime64)\(Timestamp(?:, \d+)?\)|Timestamp) \+ ` +
    String.raw`(?:toInterval(${UNITS})\((\d+)\)|(\d+))$`,
);
/** Kinds of TTL that drop no rows, or not all of them. */
const KEEPS_ROWS = / (?:WHERE|TO DISK|TO VOLUME|RECOMPRESS|GROUP BY) /;

/**
 * Parses the TTLs in a table's engine. Expressions that are not understood are ignored: they set no limit. TTLs of columns are not
 * among them.
 * @param engineFull engine_full of system.tables
 */
function timesToLive(engineFull: string): readonly TimeToLive[] {
  const [, ttl] = / TTL (.*?)(?: SETTINGS |$)/s.exec(engineFull) ?? [];
  if (ttl === undefined) return [];
  const ttls: TimeToLive[] = [];
  for (const element of parseCall(`ttl(${ttl})`).args) {
    if (KEEPS_ROWS.test(`${element} `)) continue;
    const [found, truncation = '', unit, count, plain] = TTL_EXPRESSION.exec(element.replace(/ DELETE$/, '')) ?? [];
    if (found === undefined) continue;
    const isDate = truncation.startsWith('toDate') && !truncation.startsWith('toDateTime');
    // A plain number means days for a date, and seconds for a time.
    const from = isDate ? 'date' : truncation === 'toStartOfDay' ? 'day' : 'start';
    ttls.push({ from, count: Number(count ?? plain), unit: unit ?? (isDate ? 'Day' : 'Second') });
  }
  return ttls;
}

/** The lowest of the ages, in ms. ClickHouse calculates it, as months and days differ in length. */
async function maxRowAge(client: ClickHouseClient, table: TableName, stored: readonly Pick<Engine, 'engineFull'>[]): Promise<number> {
  const ttls = stored.flatMap(({ engineFull }) => timesToLive(engineFull));
  if (ttls.length === 0) return Number.POSITIVE_INFINITY;
  const timestamp = (await columnsOf(client, table)).find(({ name }) => name === 'Timestamp');
  const [, zone = ''] = /'(.+)'/.exec(timestamp?.type ?? '') ?? [];
  const now = zone === '' ? 'now()' : `now('${zone}')`;
  const ages = ttls.map((ttl) => `toInt64(dateDiff('second', ${oldestRow(ttl, now, zone)}, ${now}))`);
  const [{ seconds }] = await select<{ seconds: number | string }>(client, `SELECT least(${ages.join(', ')}) AS seconds`, {});
  return Math.max(0, Number(seconds) * 1000);
}

/**
 * The time from which on a TTL drops no row yet, as SQL of type DateTime. Days begin in the time zone of the column, or of the server if
 * the column has none. A TTL of dates compares with the server's date, whatever the column's zone (TTL in ClickHouse's
 * MergeTreeDataWriter).
 * @param now the current time as SQL, in the column's time zone
 * @param zone the column's time zone; empty: the server's
 */
export function oldestRow({ from, count, unit }: TimeToLive, now: string, zone: string): string {
  const interval = `toInterval${unit}(${count})`;
  const before = `${now} - ${interval}`;
  const isCalendar = unit === 'Month' || unit === 'Quarter' || unit === 'Year';
  if (from === 'date') {
    const today = `toDate(${now}, serverTimezone())`;
    const last = isCalendar ? lastDroppedDay(today, interval) : `${today} - ${interval}`;
    return `toDateTime(${last} + toIntervalDay(1)${zone === '' ? '' : `, '${zone}'`})`;
  }
  if (!isCalendar) return from === 'day' ? nextDay(before) : lastDroppedTime(before, interval, now);
  const today = `toDate(${now})`;
  const last = lastDroppedDay(today, interval);
  const onLast = `${before} + toIntervalDay(${last} - toDate(${before}))`;
  if (from === 'day') return nextDay(onLast);
  // Of the last day, rows are dropped up to this time of day; all of them if it is the end of a shorter month, as February is in March.
  return `if(${last} + ${interval} = ${today}, ${lastDroppedTime(onLast, interval, now)}, ${nextDay(onLast)})`;
}

/**
 * The last time whose TTL has passed, to the minute: `time`, or up to 90 minutes later. When the clocks change, two times or none are the
 * interval before now.
 */
function lastDroppedTime(time: string, interval: string, now: string): string {
  const isDropped = `${time} + toIntervalMinute(minutes) + ${interval} <= ${now}`;
  return `${time} + toIntervalMinute(arrayMax(arrayFilter(minutes -> ${isDropped}, range(90))))`;
}

/** Midnight after a time. */
function nextDay(time: string): string {
  return `toStartOfDay(${time}) + toIntervalDay(1)`;
}

/**
 * The last date whose rows a TTL of months or years drops today. Several dates can end on one day: a month after the 28th to 31st of
 * January is the 28th of February.
 */
function lastDroppedDay(today: string, interval: string): string {
  return `arrayMax(arrayFilter(day -> day + ${interval} <= ${today}, arrayMap(i -> ${today} - ${interval} + i, range(4))))`;
}
