import { workerData } from 'node:worker_threads';
import { Injectable } from '@nestjs/common';
import { CurrentTableLimits, type TableLimits } from '../transcode/columns/table-limits.ts';
import type { ThreadData } from './messages.ts';

/** The limits of the tables, as the main thread has sent them last. */
@Injectable()
export class RemoteTable extends CurrentTableLimits {
  limits: TableLimits = (workerData as ThreadData).limits;
}
