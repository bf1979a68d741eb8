import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { parseCall } from '../schema/column-type.ts';
import { distributedTable, shardTables } from './distributed-table.ts';
import { select } from './select.ts';
import { engineOf } from './table-engine.ts';
import type { TableName } from './views.ts';

/**
 * The age from which on the table's TTL drops rows at once, now, in ms; Infinity without a TTL. Undefined where it can't be found out.
 * @param isNew whether the shards behind a Distributed table are asked too, if this server has no such table itself
 * @throws what ClickHouse says
 */
export async function findMaxRowAge(
  client: ClickHouseClient,
  { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config,
  isNew: boolean,
): Promise<number | undefined> {
  const name = { database, table };
  const engine = await engineOf(client, name);
  if (engine === undefined) return undefined;
  if (engine.engine !== 'Distributed') return maxRowAge(client, name, [engine.engineFull]);
  const distributed = distributedTable(engine.engineFull);
  const local = await engineOf(client, distributed);
  if (local !== undefined) return maxRowAge(client, name, [local.engineFull]);
  const engines = isNew ? await shardEngines(client, distributed) : [];
  return engines.length === 0 ? undefined : maxRowAge(client, name, engines);
}

async function shardEngines(client: ClickHouseClient, distributed: ReturnType<typeof distributedTable>): Promise<readonly string[]> {
  try {
    return (await shardTables(client, distributed)).map(({ engineFull }) => engineFull);
  } catch (error) {
    if (error instanceof ClickHouseError) return [];
    throw error;
  }
}

/** When rows are dropped that started at a time. */
export interface TimeToLive {
  /** What it counts from: the start itself, the beginning of its day in the column's time zone, or its date. */
  readonly from: 'start' | 'day' | 'date';
  readonly count: number;
  /** As ClickHouse's toInterval… names it. */
  readonly unit: string;
}

const UNITS = 'Second|Minute|Hour|Day|Week|Month|Quarter|Year';
/** The start of a span, as a time or a date, and what is added to it, as system.tables writes it. */
const LIFE = new RegExp(
  String.raw`^(?:(toDate|toDate32|toStartOfDay|toDateTime|toDateTime64)\(Timestamp(?:, \d+)?\)|Timestamp) \+ (?:toInterval(${UNITS})\((\d+)\)|(\d+))$`,
);
/** What these do to rows is not to drop them, or not all of them. */
const KEEPS_ROWS = / (?:WHERE|TO DISK|TO VOLUME|RECOMPRESS|GROUP BY) /;

/**
 * Reads the TTL of a table's engine, as far as it is understood: what is not is no limit. Columns' own TTLs are not in it.
 * @param engineFull as system.tables has it
 */
export function timesToLive(engineFull: string): readonly TimeToLive[] {
  const [, ttl] = / TTL (.*?)(?: SETTINGS |$)/s.exec(engineFull) ?? [];
  if (ttl === undefined) return [];
  const lives: TimeToLive[] = [];
  for (const element of parseCall(`ttl(${ttl})`).args) {
    if (KEEPS_ROWS.test(`${element} `)) continue;
    const [found, truncation = '', unit, count, plain] = LIFE.exec(element.replace(/ DELETE$/, '')) ?? [];
    if (found === undefined) continue;
    const isDate = truncation.startsWith('toDate') && !truncation.startsWith('toDateTime');
    // Plain numbers are days of a date, and seconds of a time.
    const from = isDate ? 'date' : truncation === 'toStartOfDay' ? 'day' : 'start';
    lives.push({ from, count: Number(count ?? plain), unit: unit ?? (isDate ? 'Day' : 'Second') });
  }
  return lives;
}

/**
 * ClickHouse does the calculation: months have their lengths. Days begin in the time zone of the column, or the server's if it has none.
 * A date is over when the server's date has reached it, whatever the zone of the column (TTL in ClickHouse's MergeTreeDataWriter).
 */
async function maxRowAge(client: ClickHouseClient, { database, table }: TableName, engines: readonly string[]): Promise<number> {
  const lives = engines.flatMap(timesToLive);
  if (lives.length === 0) return Number.POSITIVE_INFINITY;
  const column = "SELECT type FROM system.columns WHERE database = {database:String} AND table = {table:String} AND name = 'Timestamp'";
  const types = await select<{ type: string }>(client, column, { database, table });
  const [, zone = ''] = /'(.+)'/.exec(types[0]?.type) ?? [];
  const now = zone === '' ? 'now()' : `now('${zone}')`;
  const ages = lives.map(({ from, count, unit }) => {
    const interval = `toInterval${unit}(${count})`;
    const oldest = {
      start: `${now} - ${interval}`,
      day: `toStartOfDay(${now} - ${interval}) + toIntervalDay(1)`,
      date: `toDateTime(toDate(now(), serverTimezone()) - ${interval} + toIntervalDay(1)${zone === '' ? '' : `, '${zone}'`})`,
    }[from];
    return `toInt64(dateDiff('second', ${oldest}, ${now}))`;
  });
  const [{ seconds }] = await select<{ seconds: number | string }>(client, `SELECT least(${ages.join(', ')}) AS seconds`, {});
  return Math.max(0, Number(seconds) * 1000);
}
