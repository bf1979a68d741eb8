import { Global, Module } from '@nestjs/common';
import { RequestCounts, RequestTotals } from './request-counts.ts';

@Global()
@Module({
  providers: [
    { provide: RequestCounts, useFactory: () => new RequestCounts() },
    { provide: RequestTotals, inject: [RequestCounts], useFactory: (now: RequestCounts): RequestTotals => ({ now }) },
  ],
  exports: [RequestCounts, RequestTotals],
})
export class CountsModule {}
