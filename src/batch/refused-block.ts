import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import type { Block, Insert } from '../queue/block.ts';
import { countRows, NativeRows, type RowRange } from '../transcode/native/native-rows.ts';

/** A larger block is not searched: it is one large request, or little more, and would take several times this much memory. */
const MAX_NATIVE_BYTES = 32 * 1024 ** 2;

/** Most boundaries to split at: a block is split far less often. */
const MAX_STARTS = 4_096;

/** Both run in Node's thread pool. */
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** A refused block, decoded, from which inserts of some of its rows are made. */
export class RefusedBlock {
  readonly insert: Insert;
  private readonly block: Block;
  private readonly rows: NativeRows;
  private repair: ReadonlySet<string> = new Set();

  /** Decodes the block of an insert of a single block. Undefined if it can't be decoded, or has more than 32 MB of Native data. */
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

  /**
   * The rows whose resource differs from that of the row before: the boundaries between senders. In the dialect `hive` the resource
   * also names the target.
   */
  get starts(): readonly number[] {
    const all = this.rows.changesIn('ResourceAttributes');
    const step = Math.ceil(all.length / MAX_STARTS);
    return step <= 1 ? all : all.filter((_, index) => index % step === 0);
  }

  /** Replaces invalid UTF-8 in these columns by U+FFFD in all further inserts. @returns whether there is any */
  async repairIn(columns: readonly string[]): Promise<boolean> {
    if (columns.length === 0) return false;
    const all: readonly RowRange[] = [[0, this.block.rows]];
    const before = await this.rows.select(all);
    const after = await this.rows.select(all, new Set(columns));
    if (before.equals(after)) return false;
    this.repair = new Set(columns);
    return true;
  }

  /** Makes an insert of some of the rows. The same ranges always give the same bytes. */
  async insertOf(ranges: readonly RowRange[], token: string, sentTo: string | undefined): Promise<Insert> {
    const frame = await compress(await this.rows.select(ranges, this.repair), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    const rows = countRows(ranges);
    return { blocks: [{ ...this.block, frame, rows }], rows, bytes: frame.length, token, sentTo };
  }
}
