import { Global, Module } from '@nestjs/common';
import { EarlierRequests, UnstoredRequests } from './unstored-requests.ts';

@Global()
@Module({
  providers: [UnstoredRequests, { provide: EarlierRequests, useExisting: UnstoredRequests }],
  exports: [UnstoredRequests, EarlierRequests],
})
export class UnstoredModule {}
