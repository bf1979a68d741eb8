import { Global, Module } from '@nestjs/common';
import { AuthGuard } from './auth.guard.ts';
import { AuthService } from './auth.service.ts';
import { Authenticator } from './authenticator.ts';

@Global()
@Module({
  providers: [AuthService, AuthGuard, { provide: Authenticator, useExisting: AuthService }],
  exports: [AuthService, AuthGuard, Authenticator],
})
export class AuthModule {}
