import { wireColumns } from '../../../src/transcode/columns/native-block.ts';
import type { TestClickHouse } from '../servers/clickhouse.ts';
import type { ExpectedRow } from './expected-rows.ts';

export type Pairs = [string, string][];
type MapColumn = 'ResourceAttributes' | 'SpanAttributes' | 'Events.Attributes' | 'Links.Attributes';
/** A row with its maps as lists of pairs: objects would hide a key that occurs twice. */
export type RawRow = Omit<ExpectedRow, MapColumn> & {
  ResourceAttributes: Pairs;
  SpanAttributes: Pairs;
  'Events.Attributes': Pairs[];
  'Links.Attributes': Pairs[];
};

const pairs = (map: string) => `arrayZip(mapKeys(${map}), mapValues(${map}))`;
const SELECT_AS: Readonly<Record<string, string>> = {
  Timestamp: 'toUnixTimestamp64Nano(Timestamp)',
  ResourceAttributes: pairs('ResourceAttributes'),
  SpanAttributes: pairs('SpanAttributes'),
  'Events.Timestamp': 'arrayMap(time -> toUnixTimestamp64Nano(time), `Events.Timestamp`)',
  'Events.Attributes': `arrayMap(map -> ${pairs('map')}, \`Events.Attributes\`)`,
  'Links.Attributes': `arrayMap(map -> ${pairs('map')}, \`Links.Attributes\`)`,
};
const COLUMNS = selected(wireColumns.map(({ name }) => name));

/** The expressions that select these columns of `otel_traces` for a RawRow. */
export function selected(names: readonly string[]): string {
  return names.map((name) => `${SELECT_AS[name] ?? `\`${name}\``} AS \`${name}\``).join(', ');
}

/**
 * Every row of the given traces, all columns, in the order of trace and span ids.
 * @throws Error when a map holds a key twice
 */
export async function storedRows(clickhouse: TestClickHouse, traceIds: readonly string[]): Promise<ExpectedRow[]> {
  const list = traceIds.map((id) => `'${id}'`).join(', ');
  const rows = await clickhouse.query<RawRow>(`SELECT ${COLUMNS} FROM (SELECT * FROM otel_traces WHERE TraceId IN (${list}))`);
  return inOrder(rows.map(fromRaw));
}

/** Every row of the table, in no order. @throws Error when a map holds a key twice */
export async function allRows(clickhouse: TestClickHouse): Promise<ExpectedRow[]> {
  const rows = await clickhouse.query<RawRow>(`SELECT ${COLUMNS} FROM (SELECT * FROM otel_traces)`);
  return rows.map(fromRaw);
}

/** Sorts by trace id and span id. */
export function inOrder(rows: readonly ExpectedRow[]): ExpectedRow[] {
  return rows.toSorted((one, other) => (`${one.TraceId}${one.SpanId}` < `${other.TraceId}${other.SpanId}` ? -1 : 1));
}

function fromRaw(row: RawRow): ExpectedRow {
  return {
    ...row,
    ResourceAttributes: mapOf(row.ResourceAttributes),
    SpanAttributes: mapOf(row.SpanAttributes),
    'Events.Attributes': row['Events.Attributes'].map(mapOf),
    'Links.Attributes': row['Links.Attributes'].map(mapOf),
  };
}

function mapOf(entries: Pairs): Record<string, string> {
  const map = Object.fromEntries(entries);
  if (Object.keys(map).length !== entries.length) throw new Error(`a map with a key twice: ${JSON.stringify(entries)}`);
  return map;
}
