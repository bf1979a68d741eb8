import v8 from 'node:v8';
import { type CanActivate, Inject, Injectable } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { nodeTooOld, profilingOff } from './refusals.ts';

/** Lets requests in as long as profiling is on, and this Node can do it. */
@Injectable()
export class ProfilingGuard implements CanActivate {
  private readonly isOn: boolean;

  constructor(@Inject(collectorConfig.KEY) config: Config) {
    this.isOn = config.ENABLE_PROFILING;
  }

  canActivate(): boolean {
    if (!this.isOn) throw profilingOff();
    if (!('startHeapProfile' in v8)) throw nodeTooOld();
    return true;
  }
}
