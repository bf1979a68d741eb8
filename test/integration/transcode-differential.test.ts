import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createStatements } from '../../src/storage/table.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { wireColumns } from '../../src/transcode/columns/native-block.ts';
import { type TestClickHouse, startClickHouse } from '../support/servers/clickhouse.ts';
import { stringsOfEqualHash } from '../support/generators/equal-hashes.ts';
import { type ExpectedRow, expectedRows } from '../support/oracle/expected-rows.ts';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../support/generators/payloads.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';
import { type RandomRequest, randomRequest, type Shape } from '../support/generators/random-requests.ts';
import { Random } from '../support/generators/random.ts';
import { type Pairs, type RawRow, selected } from '../support/oracle/stored-rows.ts';

/*
 * Generated requests go the way of real ones: transcoded, sealed, inserted into a real ClickHouse. What is read back has
 * to be what protobufjs and the row mapping say. Seeds are in the names of the assertions.
 */

const DIALECTS = ['hive', 'otelcol'] as const;
const REQUESTS_PER_INSERT = 125;
const INSERTS = 6;
const TABLE = '`default`.`otel_traces`';

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  const [createDatabase, createTable] = createStatements('default', 'otel_traces');
  await clickhouse.command(createDatabase);
  // Random times are decades old: without the TTL they stay.
  await clickhouse.command(createTable.replace(/^TTL .*$/m, ''));
});

afterAll(() => clickhouse[Symbol.asyncDispose]());

describe.each(DIALECTS)('rows of the dialect %s read back from ClickHouse are those of the oracle', (dialect) => {
  test.each(Array.from({ length: INSERTS }, (_, index) => 1000 + index))(
    'for requests of every kind, in Protobuf and in JSON, seed %i',
    async (seed) => {
      const random = new Random(seed);
      const stream = new Stream(dialect);
      for (let request = 0; request < REQUESTS_PER_INSERT; request++) {
        stream.addAllForms(randomRequest(random), `target-${seed}-${request}`);
        if (random.chance(0.2)) stream.seal();
      }
      await stream.expectStored();
    },
  );

  test.each<Shape>(['manyKeys', 'vastKeys', 'manySpans', 'longTexts'])('for requests of the shape %s between others', async (shape) => {
    const random = new Random(2000);
    const stream = new Stream(dialect);
    for (const each of ['usual', shape, 'usual'] as const) {
      stream.addAllForms(randomRequest(random, each), `target-${each}`);
    }
    await stream.expectStored();
  });

  test('for the payloads of the benchmark', async () => {
    const stream = new Stream(dialect);
    for (const spans of [1, 11, 512]) {
      const json = hiveGatewayBatch({ spans, seed: spans }).body;
      const protobuf = gatewayProtobuf({ spans, seed: spans }).body;
      stream.add(json, 'json', 'json target', encodeRequest(parsedJson(json.toString())));
      stream.add(protobuf, 'protobuf', 'protobuf target', protobuf);
    }
    await stream.expectStored();
  });

  test('when a malformed request comes between good ones, also one that had widened the dictionaries', async () => {
    const random = new Random(3000);
    const stream = new Stream(dialect);
    const vast = randomRequest(random, 'vastKeys');
    const good = () => stream.addAllForms(randomRequest(random, 'usual'), 'target of good ones');
    good();
    for (const wide of [randomRequest(random, 'manyKeys'), vast]) {
      stream.expectRefused(wide.protobuf.subarray(0, -1), 'protobuf');
      stream.expectRefused(wide.json.subarray(0, wide.json.lastIndexOf('}')), 'json');
      good();
    }
    stream.add(vast.protobuf, 'protobuf', 'target of the vast one', vast.canonical);
    good();
    await stream.expectStored();
  });

  test('when strings of equal hash flood a dictionary', async () => {
    const names = stringsOfEqualHash(150);
    const stream = new Stream(dialect);
    const spans = [...names, ...names].map((name) => ({
      name,
      attributes: [{ key: name, value: { stringValue: name } }],
      events: [],
      links: [],
    }));
    const attributes = names.map((name) => ({ key: name, value: { stringValue: name } }));
    const body = encodeRequest({ resourceSpans: [{ resource: { attributes }, scopeSpans: [{ spans }] }] });
    stream.add(body, 'protobuf', 'target', body);
    await stream.expectStored();
  });

  test('when many requests of few spans fill one block', async () => {
    const random = new Random(4000);
    const stream = new Stream(dialect);
    for (let request = 0; request < 1000; request++) {
      const resourceSpans: OtlpRequest['resourceSpans'] = [
        {
          resource: { attributes: [{ key: 'service.name', value: { stringValue: `service ${random.below(400)}` } }] },
          scopeSpans: [{ spans: [{ name: `span ${request}`, spanId: random.bytes(8), attributes: [], events: [], links: [] }] }],
        },
      ];
      const body = encodeRequest({ resourceSpans });
      stream.add(body, 'protobuf', `target ${request % 300}`, body);
    }
    await stream.expectStored();
  });
});

/** Blocks of one insert, and the rows that they have to become. */
class Stream {
  readonly #dialect: 'hive' | 'otelcol';
  readonly #encoder: BlockEncoder;
  readonly #frames: Buffer[] = [];
  readonly #expected: ExpectedRow[] = [];
  #openRows = 0;

  constructor(dialect: 'hive' | 'otelcol') {
    this.#dialect = dialect;
    this.#encoder = new BlockEncoder(dialect);
  }

  addAllForms({ canonical, protobuf, json }: RandomRequest, targetId: string): void {
    this.add(canonical, 'protobuf', `${targetId} plain`, canonical);
    this.add(protobuf, 'protobuf', `${targetId} shuffled`, canonical);
    this.add(json, 'json', `${targetId} JSON`, canonical);
  }

  /** @param canonical what the body means, for the oracle */
  add(body: Uint8Array, encoding: 'protobuf' | 'json', targetId: string, canonical: Uint8Array): void {
    const rows = expectedRows(canonical, targetId, this.#dialect);
    const middle = body.length >> 1;
    const { accepted, rejected } = this.#encoder.add([body.subarray(0, middle), body.subarray(middle)], encoding, targetId);
    expect({ accepted, rejected }).toEqual({ accepted: rows.length, rejected: 0 });
    for (const row of rows) this.#expected.push(row);
    this.#openRows += rows.length;
    expect(this.#encoder.rows).toBe(this.#openRows);
  }

  expectRefused(body: Uint8Array, encoding: 'protobuf' | 'json'): void {
    expect(() => this.#encoder.add([body], encoding, 'refused')).toThrow(expect.objectContaining({ name: 'MalformedRequest' }));
    expect(this.#encoder.rows).toBe(this.#openRows);
  }

  seal(): void {
    const { frame, rows } = this.#encoder.seal();
    expect(rows).toBe(this.#openRows);
    this.#frames.push(frame);
    this.#openRows = 0;
  }

  async expectStored(): Promise<void> {
    this.seal();
    const columns = wireColumns.map(({ name }) => `\`${name}\``).join(', ');
    const settings = 'insert_deduplicate = 0, throw_on_max_partitions_per_insert_block = 0';
    await clickhouse.command(`INSERT INTO ${TABLE} (${columns}) SETTINGS ${settings} FORMAT Native`, Buffer.concat(this.#frames), {
      'content-encoding': 'zstd',
    });
    const stored = (await clickhouse.query<RawRow>(SELECT)).map((row) => comparable(fromStored(row)));
    await clickhouse.command(`TRUNCATE TABLE ${TABLE}`);

    const expected = this.#expected.map(comparable);
    stored.sort();
    expected.sort();
    const wrong = expected.findIndex((row, index) => row !== stored[index]);
    if (wrong >= 0)
      expect(stored[wrong] && JSON.parse(stored[wrong]), `row ${wrong} in the order of the ids`).toEqual(JSON.parse(expected[wrong]));
    expect(stored).toHaveLength(expected.length);
  }
}

const ORDER = ['TraceId', 'SpanId', 'SpanName', 'Timestamp'];
const NAMES = wireColumns.map(({ name }) => name).toSorted((one, other) => ORDER.indexOf(other) - ORDER.indexOf(one));
const SELECT = `SELECT ${selected(NAMES)} FROM (SELECT * FROM ${TABLE})`;

function fromStored(row: RawRow): Record<string, unknown> {
  return {
    ...row,
    ResourceAttributes: sorted(row.ResourceAttributes),
    SpanAttributes: sorted(row.SpanAttributes),
    'Events.Attributes': row['Events.Attributes'].map(sorted),
    'Links.Attributes': row['Links.Attributes'].map(sorted),
  };
}

/** One line a row, columns in one order, so that rows can be sorted and compared as text. */
function comparable(row: object): string {
  const entries = NAMES.map((name): [string, unknown] => [name, plain(Reflect.get(row, name))]);
  return JSON.stringify(Object.fromEntries(entries));
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  return typeof value === 'object' && value !== null ? sorted(Object.entries(value)) : value;
}

function sorted(entries: Pairs): Pairs {
  return entries.toSorted(([one], [other]) => (one < other ? -1 : Number(one > other)));
}
