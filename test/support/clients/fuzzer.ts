import { isUtf8 } from 'node:buffer';
import { isDeepStrictEqual } from 'node:util';
import type { Encoding } from '../../../src/otlp/encoding.ts';
import { BlockEncoder } from '../../../src/transcode/block-encoder.ts';
import { MalformedRequest } from '../../../src/transcode/bytes/malformed-request.ts';
import { ATTRIBUTES_COLUMNS, NO_RULES } from '../../../src/transcode/columns/transcode-rules.ts';
import type { Transcoded } from '../../../src/transcode/transcoder.ts';
import { mutateJson, mutateProtobuf } from '../generators/mutations.ts';
import { randomRequest, type RandomRequest } from '../generators/random-requests.ts';
import { Random } from '../generators/random.ts';
import { adjustedSpans, rowsOf, type ExpectedRow } from '../oracle/expected-rows.ts';
import { decodeLeniently } from '../oracle/lenient-protobuf.ts';
import { comparableRow, rowsInFrame } from '../oracle/native-rows.ts';
import type { OtlpRequest, Span } from '../oracle/otlp-request.ts';
import { readJson } from '../oracle/parsed-json.ts';

/*
 * Transcodes bodies that are nearly valid, and compares the result with protobufjs and JSON.parse: what they refuse must be refused, and
 * what they accept must become the same rows. The collector differs on purpose in this:
 *
 *   - text that is not UTF-8 is stored unchanged in Protobuf, and refused in JSON
 *   - the type of a JSON value that another one supersedes may be checked or not
 *   - a byte order mark before JSON is accepted
 *   - nesting and the number of rows are limited
 *   - a body without any span that has a time is refused if it looks like something other than traces
 *
 * In every third block, attributes that are not UTF-8 are repaired, as for a table with JSON columns.
 */

/** A difference that was found, with the seed and the body that reproduce it. */
export class Disagreement extends Error {
  constructor(detail: string, seed: number, encoding: Encoding, body: Buffer) {
    super(`${detail}\nseed ${seed}, ${encoding}: ${encoding === 'json' ? body.toString() : body.toString('hex')}`);
    this.name = 'Disagreement';
  }
}

interface Reading {
  readonly status: 'read';
  readonly rows: ExpectedRow[];
  /** Spans that are rejected because of their ids. */
  readonly rejected: number;
  /** Spans that are stored with changed values, by reason. */
  readonly adjusted: Readonly<Record<string, number>>;
  /** Whether the collector may also refuse it. */
  readonly doubtful: boolean;
  readonly isUtf8: boolean;
}

type Expected = Reading | { readonly status: 'refused'; readonly reason: string };

interface Tried {
  readonly body: Buffer;
  readonly encoding: Encoding;
  readonly rows: ExpectedRow[];
  readonly isUtf8: boolean;
}

/** A sealed block, and the rows that must be read from it. */
export interface FuzzedBlock {
  readonly frame: Buffer;
  readonly rows: ExpectedRow[];
  /** Whether its attributes are all UTF-8. */
  readonly isText: boolean;
}

const BODIES = 24;
/** The share of bodies that are not mutated. */
const VALID_SHARE = 0.05;
const BODIES_PER_BLOCK = 20;
/** Small bodies are fast, and a random change in them is likely to matter. */
const MAX_BODY_BYTES = 3000;

/** Makes blocks of mutated bodies and checks their rows. A block depends on its seed only. */
export class Fuzzer {
  readonly stats = { runs: 0, refused: 0, accepted: 0, rows: 0 };
  readonly #dialect: 'hive' | 'otelcol';
  #encoder: BlockEncoder;

  constructor(dialect: 'hive' | 'otelcol') {
    this.#dialect = dialect;
    this.#encoder = new BlockEncoder(dialect);
  }

  /**
   * Transcodes some bodies to a block, and compares its rows with the expected ones.
   * @throws Disagreement when they differ; Error when the rows can't be assigned to a body
   */
  block(seed: number): FuzzedBlock {
    try {
      return this.#block(seed);
    } catch (error) {
      this.#encoder = new BlockEncoder(this.#dialect);
      throw error;
    }
  }

  #block(seed: number): FuzzedBlock {
    const random = new Random(seed);
    const isText = seed % 3 === 0;
    this.#encoder.setRules({ ...NO_RULES, textColumns: isText ? ATTRIBUTES_COLUMNS : [] });
    const sources = bodiesOf(Math.floor(seed / 50));
    const tried: Tried[] = [];
    for (let run = 0; run < BODIES_PER_BLOCK; run++) {
      const source = random.pick(sources);
      const encoding = random.chance(0.5) ? 'protobuf' : 'json';
      const body = random.chance(VALID_SHARE) ? Buffer.from(source[encoding]) : mutated(source, random.pick(sources), encoding, random);
      tried.push(this.#add(body, encoding, seed));
    }
    const { frame } = this.#encoder.seal();
    this.#compare(frame, tried, seed, isText);
    return { frame, rows: tried.flatMap(({ rows }) => rows), isText };
  }

  #add(body: Buffer, encoding: Encoding, seed: number): Tried {
    const expected = expectedOf(body, encoding, this.#dialect);
    const before = this.#encoder.rows;
    this.stats.runs++;
    let outcome: Transcoded;
    try {
      outcome = this.#encoder.add([body], encoding, TARGET_ID);
    } catch (error) {
      if (!(error instanceof MalformedRequest)) throw new Disagreement(`the transcoder failed: ${String(error)}`, seed, encoding, body);
      if (this.#encoder.rows !== before) throw new Disagreement('rows were left of a refused request', seed, encoding, body);
      if (expected.status === 'read' && !mayRefuse(expected, error))
        throw new Disagreement(`refused: ${error.message}`, seed, encoding, body);
      this.stats.refused++;
      return { body, encoding, rows: [], isUtf8: true };
    }
    this.stats.accepted++;
    if (expected.status === 'refused') throw new Disagreement(`accepted, though ${expected.reason}`, seed, encoding, body);
    if (outcome.accepted !== expected.rows.length || outcome.rejected !== expected.rejected)
      throw new Disagreement(
        `${expected.rows.length} rows and ${expected.rejected} spans rejected became ${JSON.stringify(outcome)}`,
        seed,
        encoding,
        body,
      );
    const adjusted = Object.fromEntries((outcome.adjustments ?? []).map(({ reason, spans }) => [reason, spans]));
    if (!isDeepStrictEqual(adjusted, expected.adjusted))
      throw new Disagreement(
        `adjusted ${JSON.stringify(expected.adjusted)}, but it says ${JSON.stringify(adjusted)}`,
        seed,
        encoding,
        body,
      );
    this.stats.rows += expected.rows.length;
    return { body, encoding, rows: expected.rows, isUtf8: expected.isUtf8 };
  }

  #compare(frame: Buffer, tried: readonly Tried[], seed: number, isText: boolean): void {
    const duplicates: unknown[] = [];
    const actual = rowsInFrame(frame, duplicates).map(comparableRow);
    // Keys that differ only in bytes that are not UTF-8 are equal here.
    if (duplicates.length > 0 && (isText || tried.every((each) => each.isUtf8)))
      throw new Error(`seed ${seed}: a map holds a key twice: ${JSON.stringify(duplicates)}`);
    let at = 0;
    for (const { body, encoding, rows } of tried) {
      for (const row of rows) {
        const expected = comparableRow(row);
        if (actual[at] !== expected) throw new Disagreement(`expected ${expected}\ngot ${actual[at]}`, seed, encoding, body);
        at++;
      }
    }
    if (actual.length !== at) throw new Error(`seed ${seed}: ${actual.length} rows for ${at}`);
  }
}

const TARGET_ID = 'target';

function mayRefuse({ rows, rejected, doubtful }: Reading, { message }: MalformedRequest): boolean {
  if (message.includes('it looks like')) return rows.every(({ Timestamp }) => Timestamp === '0');
  return doubtful || message.includes('nested deeper') || (rows.length === 0 && rejected > 0);
}

function mutated(source: RandomRequest, other: RandomRequest, encoding: Encoding, random: Random): Buffer {
  if (encoding === 'json') return mutateJson(source.json, other.json, random);
  return mutateProtobuf(Buffer.from(source.canonical), Buffer.from(other.canonical), random);
}

function expectedOf(body: Buffer, encoding: Encoding, dialect: 'hive' | 'otelcol'): Expected {
  try {
    if (encoding === 'json' && !isUtf8(body)) throw new TypeError('it is not UTF-8');
    const reading = encoding === 'json' ? readJson(body.toString().replace(/^\ufeff/, '')) : decodeLeniently(body);
    const rejected = withoutBadIds(reading.request);
    return {
      status: 'read',
      rejected,
      adjusted: adjustedSpans(reading.request),
      rows: rowsOf(reading.request, TARGET_ID, dialect),
      doubtful: 'doubtful' in reading && reading.doubtful,
      isUtf8: !('isUtf8' in reading) || reading.isUtf8,
    };
  } catch (error) {
    return { status: 'refused', reason: String(error) };
  }
}

/** Removes the spans that have an id of a wrong length. @returns their number */
function withoutBadIds(request: OtlpRequest): number {
  let rejected = 0;
  for (const scopeSpans of request.resourceSpans.flatMap((each) => each.scopeSpans)) {
    const good = scopeSpans.spans.filter(hasGoodIds);
    rejected += scopeSpans.spans.length - good.length;
    scopeSpans.spans = good;
  }
  return rejected;
}

function hasGoodIds({ traceId, spanId, parentSpanId, links }: Span): boolean {
  const ids = [
    [traceId, 16],
    [spanId, 8],
    [parentSpanId, 8],
    ...links.flatMap(
      (link) =>
        [
          [link.traceId, 16],
          [link.spanId, 8],
        ] as const,
    ),
  ] as const;
  return ids.every(([id, bytes]) => id === undefined || id.length === 0 || id.length === bytes);
}

let sources: { readonly seed: number; readonly bodies: RandomRequest[] } | undefined;

/** Valid requests to mutate. They are kept for the next runs, because making them takes longer than a run. */
function bodiesOf(seed: number): RandomRequest[] {
  if (sources?.seed !== seed) {
    const bodies: RandomRequest[] = [];
    const random = new Random(seed + 2 ** 40);
    while (bodies.length < BODIES) {
      const request = randomRequest(random, 'usual');
      if (request.canonical.length < MAX_BODY_BYTES) bodies.push(request);
    }
    sources = { seed, bodies };
  }
  return sources.bodies;
}
