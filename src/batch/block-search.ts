import type { Refused, RefusedPart } from '../queue/block-queue.ts';
import type { Insert } from '../queue/block.ts';
import type { RefusedRows, SearchStep } from '../queue/search-step.ts';
import { InsertError } from '../storage/insert-error.ts';
import { RefusedBlock } from './refused-block.ts';
import { RowSearch, type RowSet } from './row-search.ts';

/** What came of sending an insert until ClickHouse has it or refuses it twice. */
export type Sent =
  | { readonly status: 'inserted'; readonly server: string }
  | { readonly status: 'refused'; readonly refused: Refused }
  /** Nobody waits for it any more. A failed attempt may have left rows of it in the table. */
  | { readonly status: 'unwanted'; readonly storedRows: number };

/** What a search needs of others. */
export interface SearchTools {
  /**
   * @param mayBeThere whether a process before this one may have sent it
   * @param isStoredInPart whether other rows of the block are stored already
   */
  send(part: Insert, mayBeThere: boolean, isStoredInPart: boolean): Promise<Sent>;
  /** Columns of the table that take no text but UTF-8. */
  jsonColumns(server: string): Promise<readonly string[]>;
  /** Resolves when a step is safe from a crash. */
  note(step: SearchStep): Promise<void>;
}

export type Searched =
  /** All rows are stored, some with their text repaired. */
  | { readonly status: 'inserted'; readonly repaired: boolean }
  | { readonly status: 'searched'; readonly refused: readonly RefusedPart[] }
  /** Nobody waits for it any more. Rows of it are in the table: from parts that were inserted, and from an attempt that failed. */
  | { readonly status: 'unwanted'; readonly insertedRows: number; readonly storedRows: number }
  /** The block can't be decoded. */
  | { readonly status: 'opaque' };

/**
 * Inserts all rows of a refused block but those that ClickHouse does not take. First with text repaired, where columns of the table
 * take no other than UTF-8: the whole block, under the token that it has. Then set by set (row-search.ts), each under a token that
 * follows from the block's: after a crash it ends with each row stored once.
 * @param insert of a single block
 * @param refusal undefined if a process before this one was refused, and had begun to search
 * @param steps what that had found out
 */
export async function searchBlock(
  insert: Insert,
  refusal: Refused | undefined,
  steps: readonly SearchStep[],
  tools: SearchTools,
): Promise<Searched> {
  const block = await RefusedBlock.decode(insert);
  if (block === undefined) return { status: 'opaque' };
  const search = new RowSearch(insert.rows, block.starts);
  let repaired = false;
  for (const step of steps) {
    if (step.kind === 'ended') return { status: 'searched', refused: await partsOf(block, step.refused) };
    if (step.kind === 'split') search.split(step);
    else repaired = await block.repairIn(step.columns);
  }
  if (refusal !== undefined) {
    const columns = await tools.jsonColumns(refusal.server);
    repaired = await block.repairIn(columns);
    if (repaired) await tools.note({ kind: 'repaired', columns });
  }
  const end = await sendSets(block, search, repaired ? undefined : refusal, refusal?.server ?? insert.sentTo, refusal === undefined, tools);
  if (end.status === 'unwanted') return end;
  if (end.status === 'inserted') return { status: 'inserted', repaired };
  const refused = search.result();
  await tools.note({ kind: 'ended', refused });
  return { status: 'searched', refused: await partsOf(block, refused) };
}

type SearchEnd = { readonly status: 'inserted' | 'searched' } | Extract<Searched, { status: 'unwanted' }>;

/**
 * Sends all sets of a search, until none is left.
 * @param refusal of the whole block, if it was refused as it is now
 * @param mayBeThere whether a process before this one may have sent some of them
 */
async function sendSets(
  block: RefusedBlock,
  search: RowSearch,
  refusal: Refused | undefined,
  sentTo: string | undefined,
  mayBeThere: boolean,
  tools: SearchTools,
): Promise<SearchEnd> {
  let server = sentTo;
  let insertedRows = 0;
  for (let set = search.next(); set !== undefined; set = search.next()) {
    const isKnown = set.number === 0 && refusal !== undefined;
    const sent: Sent = isKnown
      ? { status: 'refused', refused: refusal }
      : await tools.send(await block.insertOf(set.ranges, tokenOf(block.insert, set), server), mayBeThere, insertedRows > 0);
    switch (sent.status) {
      case 'unwanted':
        return { status: 'unwanted', insertedRows, storedRows: sent.storedRows };
      case 'inserted':
        if (set.number === 0) return { status: 'inserted' };
        insertedRows += set.rows;
        // What one server has stored under a token, another does not know.
        server = sent.server;
        search.stored(set);
        break;
      case 'refused':
        server = sent.refused.server;
        await split(search, set, sent.refused, tools);
    }
  }
  return { status: 'searched' };
}

async function split(search: RowSearch, set: RowSet, refused: Refused, tools: SearchTools): Promise<void> {
  const step = search.splitOf(set, refused.error);
  if (step === undefined) return search.refuse(set, refused);
  await tools.note(step);
  search.split(step);
}

function tokenOf({ token }: Insert, { number }: RowSet): string {
  return number === 0 ? token : `${token}-rows-${number}`;
}

function partsOf(block: RefusedBlock, refused: readonly RefusedRows[]): Promise<RefusedPart[]> {
  return Promise.all(refused.map((rows) => partOf(block, rows)));
}

async function partOf(block: RefusedBlock, { ranges, code, reason, server, decided }: RefusedRows): Promise<RefusedPart> {
  const insert = await block.insertOf(ranges, `${block.insert.token}-${decided ? `refused-${code}` : 'undecided'}`, server);
  return { insert, ranges, refused: { error: new InsertError(code, reason), server } };
}
