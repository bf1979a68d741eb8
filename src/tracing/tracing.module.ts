import { Global, Module } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import { SelfTracing } from './self-tracing.ts';
import { startTracing } from './start-tracing.ts';

@Global()
@Module({ providers: [{ provide: SelfTracing, inject: [collectorConfig.KEY], useFactory: startTracing }], exports: [SelfTracing] })
export class TracingModule {}
