import { Module } from '@nestjs/common';
import { DeadLetters } from './dead-letters.service.ts';

@Module({ providers: [DeadLetters], exports: [DeadLetters] })
export class DeadLettersModule {}
