import { Global, Module } from '@nestjs/common';
import { CountCells } from './count-cells.ts';
import { RequestCounts, RequestTotals, SumsOfThreads } from './request-counts.ts';

const CELLS = { token: CountCells, optional: true };

@Global()
@Module({
  providers: [
    { provide: RequestCounts, inject: [CELLS], useFactory: (cells?: CountCells) => new RequestCounts(cells?.own) },
    {
      provide: RequestTotals,
      inject: [RequestCounts, CELLS],
      useFactory: (now: RequestCounts, cells?: CountCells): RequestTotals => (cells === undefined ? { now } : new SumsOfThreads(cells)),
    },
  ],
  exports: [RequestCounts, RequestTotals],
})
export class CountsModule {}
