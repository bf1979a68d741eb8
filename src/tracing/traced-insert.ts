import type { Insert } from '../batch/block.ts';
import type { InsertTrace } from './block-trace.ts';

/** Begins the span of an attempt to insert; undefined if no block in it is traced. */
export function traceInsert({ blocks, rows, bytes }: Insert, server: string): InsertTrace | undefined {
  const [first, ...others] = blocks.flatMap(({ trace }) => trace ?? []);
  return first?.startInsert(others, server, { 'hive_collector.blocks': blocks.length, 'hive_collector.spans': rows, 'hive_collector.bytes': bytes });
}
