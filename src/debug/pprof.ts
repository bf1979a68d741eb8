import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { Function as PprofFunction, Label, Line, Location, Mapping, Profile, Sample, StringTable, ValueType } from 'pprof-format';
import type { Recording } from './profiler.service.ts';
import type { Frame } from './stack.ts';

const MAPPING_ID = 1;

/**
 * Encodes a recording as a gzipped profile.proto, the format of `go tool pprof` and most profile viewers. Each sample has a label
 * `thread`. (https://github.com/google/pprof/blob/main/proto/profile.proto)
 */
export async function encodePprof({ kind, threads, startedAtMs, tookMs, period }: Recording): Promise<Buffer> {
  const strings = new StringTable();
  const valueType = (type: string, unit: string) => new ValueType({ type: strings.dedup(type), unit: strings.dedup(unit) });
  const locations = new Locations(strings);
  const sample = threads.flatMap(({ thread, stacks }) => {
    const label = [new Label({ key: strings.dedup('thread'), str: strings.dedup(thread) })];
    return stacks.map(
      ({ stack, samples, amount }) =>
        new Sample({ locationId: stack.map((frame) => locations.idOf(frame)), value: [samples, amount], label }),
    );
  });
  const profile = new Profile({
    sampleType: [valueType('samples', 'count'), valueType(kind.amount, kind.unit)],
    sample,
    // A single mapping, marked as symbolized: pprof then looks up nothing in a binary.
    mapping: [
      new Mapping({
        id: MAPPING_ID,
        filename: strings.dedup('hive-otel-collector'),
        hasFunctions: true,
        hasFilenames: true,
        hasLineNumbers: true,
      }),
    ],
    location: locations.all,
    function: locations.functions,
    stringTable: strings,
    timeNanos: BigInt(startedAtMs) * 1_000_000n,
    durationNanos: Math.round(tookMs * 1e6),
    periodType: valueType(kind.amount === 'cpu' ? 'cpu' : 'space', kind.unit),
    period,
    defaultSampleType: strings.dedup(kind.amount),
  });
  return promisify(gzip)(await profile.encodeAsync());
}

/** The numbered functions and locations (lines of functions) of a profile. Ids start at 1. */
class Locations {
  readonly all: Location[] = [];
  readonly functions: PprofFunction[] = [];
  private readonly ids = new Map<string, number>();
  private readonly functionIds = new Map<string, number>();
  private readonly strings: StringTable;

  constructor(strings: StringTable) {
    this.strings = strings;
  }

  idOf(frame: Frame): number {
    const functionId = this.functionIdOf(frame);
    const key = `${functionId}:${frame.line}`;
    const known = this.ids.get(key);
    if (known !== undefined) return known;
    const id = this.all.length + 1;
    this.all.push(new Location({ id, mappingId: MAPPING_ID, line: [new Line({ functionId, line: frame.line })] }));
    this.ids.set(key, id);
    return id;
  }

  private functionIdOf({ name, file, startLine }: Frame): number {
    const key = `${file}:${startLine}:${name}`;
    const known = this.functionIds.get(key);
    if (known !== undefined) return known;
    const id = this.functions.length + 1;
    const nameId = this.strings.dedup(name);
    this.functions.push(new PprofFunction({ id, name: nameId, systemName: nameId, filename: this.strings.dedup(file), startLine }));
    this.functionIds.set(key, id);
    return id;
  }
}
