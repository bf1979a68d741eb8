import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import type { Block, Insert } from '../queue/block.ts';
import { countRows, NativeRows, type RowRange } from '../transcode/native/native-rows.ts';

/** A larger block stays whole: it is a single large request, or nearly so, and would take several times this much memory. */
const MAX_NATIVE_BYTES = 32 * 1024 ** 2;

/** As many places to split at are enough, wherever they are: a block is split far less often. */
const MAX_STARTS = 4_096;

/** Both run outside of the event loop. */
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** A block that was refused, decoded, so that inserts can be made of some of its rows. */
export class RefusedBlock {
  readonly insert: Insert;
  private readonly block: Block;
  private readonly rows: NativeRows;
  private repair: ReadonlySet<string> = new Set();

  /** Undefined if the block of an insert can't be decoded, or is larger than 32 MB when it is. */
  static async decode(insert: Insert): Promise<RefusedBlock | undefined> {
    const [block] = insert.blocks;
    try {
      const rows = await NativeRows.parse(await decompress(block.frame, { maxOutputLength: MAX_NATIVE_BYTES }));
      return rows.rows === block.rows ? new RefusedBlock(insert, block, rows) : undefined;
    } catch {
      return undefined;
    }
  }

  private constructor(insert: Insert, block: Block, rows: NativeRows) {
    this.insert = insert;
    this.block = block;
    this.rows = rows;
  }

  /** Rows whose resource is another than that of the row before: where one sender's rows end and another's begin. Of the dialect hive, a resource names the target. */
  get starts(): readonly number[] {
    const all = this.rows.changesIn('ResourceAttributes');
    const step = Math.ceil(all.length / MAX_STARTS);
    return step <= 1 ? all : all.filter((_, index) => index % step === 0);
  }

  /** From now on, text in these columns that is not UTF-8 is repaired. @returns whether there is any */
  async repairIn(columns: readonly string[]): Promise<boolean> {
    if (columns.length === 0) return false;
    const all: readonly RowRange[] = [[0, this.block.rows]];
    const before = await this.rows.select(all);
    const after = await this.rows.select(all, new Set(columns));
    if (before.equals(after)) return false;
    this.repair = new Set(columns);
    return true;
  }

  /** An insert of some of the rows. The same ranges make the same bytes each time. */
  async insertOf(ranges: readonly RowRange[], token: string, sentTo: string | undefined): Promise<Insert> {
    const frame = await compress(await this.rows.select(ranges, this.repair), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    const rows = countRows(ranges);
    return { blocks: [{ ...this.block, frame, rows }], rows, bytes: frame.length, token, sentTo };
  }
}
