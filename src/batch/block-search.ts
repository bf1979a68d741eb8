import type { Refused, RefusedPart } from '../queue/block-queue.ts';
import type { Insert } from '../queue/block.ts';
import type { RefusedRows, SearchStep } from '../queue/search-step.ts';
import { InsertError } from '../storage/insert-error.ts';
import { RefusedBlock } from './refused-block.ts';
import { RowSearch, type RowSet } from './row-search.ts';

/** The outcome of sending an insert, with its retries. */
export type Sent =
  | { readonly status: 'inserted'; readonly server: string }
  | { readonly status: 'refused'; readonly refused: Refused }
  /** The insert is no longer wanted. A failed attempt may have left `storedRows` of it in the table. */
  | { readonly status: 'unwanted'; readonly storedRows: number };

/** What a search uses of the insert workers. */
export interface SearchTools {
  /**
   * Sends `part` until it is stored, refused or no longer wanted.
   * @param mayBeThere whether an earlier process may have sent it
   * @param isStoredInPart whether other rows of the block are already stored
   */
  send(part: Insert, mayBeThere: boolean, isStoredInPart: boolean): Promise<Sent>;
  /** The columns of the table that accept only valid UTF-8. */
  jsonColumns(server: string): Promise<readonly string[]>;
  /** Records a step. Resolves when it survives a crash. */
  note(step: SearchStep): Promise<void>;
}

/** The outcome of a search. */
export type Searched =
  /** All rows are stored; `repaired`: after invalid UTF-8 was replaced. */
  | { readonly status: 'inserted'; readonly repaired: boolean }
  | { readonly status: 'searched'; readonly refused: readonly RefusedPart[] }
  /** The block is no longer wanted. Rows of it are in the table: from inserted parts, and from a failed attempt. */
  | { readonly status: 'unwanted'; readonly insertedRows: number; readonly storedRows: number }
  /** The block can't be decoded. */
  | { readonly status: 'opaque' };

/**
 * Inserts all rows of a refused block except those that ClickHouse refuses. If columns of the table accept only valid UTF-8, the
 * whole block is first sent again under its own token, with invalid UTF-8 replaced. Then the rows are sent set by set
 * (row-search.ts), each set under a token derived from the block's: after a crash and a restart each row is still stored once.
 * @param insert an insert of a single block
 * @param refusal the refusal of the block; undefined if an earlier process received it and began the search
 * @param steps the steps that the earlier process recorded
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
 * Sends the sets of a search until none is left.
 * @param refusal the refusal of the whole block, unless the block was repaired since
 * @param mayBeThere whether an earlier process may have sent some of the sets
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
        // Another server does not know the tokens of this one: the other sets have to go to it too.
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
