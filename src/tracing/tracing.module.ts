import { Global, Module } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import { startTracing } from './start-tracing.ts';
import { SelfTracing } from './self-tracing.ts';

@Global()
@Module({ providers: [{ provide: SelfTracing, inject: [collectorConfig.KEY], useFactory: startTracing }], exports: [SelfTracing] })
export class TracingModule {}
