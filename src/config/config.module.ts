import { ConfigModule, registerAs } from '@nestjs/config';
import { loadConfig } from './load-config.ts';

/** The validated configuration; inject it with `@Inject(collectorConfig.KEY) config: Config`. */
export const collectorConfig = registerAs('collector', () => loadConfig(process.env));

export const CollectorConfigModule = ConfigModule.forRoot({ isGlobal: true, ignoreEnvFile: true, cache: true, load: [collectorConfig] });
