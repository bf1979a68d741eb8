import { Module } from '@nestjs/common';
import { AuthGuard } from './auth.guard.ts';
import { AuthService } from './auth.service.ts';

@Module({ providers: [AuthService, AuthGuard], exports: [AuthService, AuthGuard] })
export class AuthModule {}
