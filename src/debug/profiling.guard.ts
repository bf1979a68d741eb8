import v8 from 'node:v8';
import { type CanActivate, Inject, Injectable } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { nodeTooOld, profilingOff } from './refusals.ts';

/** Admits requests if profiling is enabled, and this version of Node supports it. @throws HttpException 404 or 501 otherwise */
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
