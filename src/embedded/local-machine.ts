import { accessSync, constants, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';

/** What local mode has to know of a machine. */
export interface Machine {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** Path of ClickHouse as a library, an optional package that only Linux x64 with glibc has. */
  readonly library: string | undefined;
  /** Path of the `clickhouse` on the PATH. */
  readonly program: string | undefined;
}

/** A ClickHouse that can be started, or a sentence that says how to get one. */
export type LocalClickHouse =
  | { readonly kind: 'library' | 'program'; readonly path: string }
  | { readonly kind: 'none'; readonly advice: string };

export interface LocalPlan {
  readonly clickhouse: LocalClickHouse;
  /** The disk buffer needs Linux. */
  readonly diskBuffer: boolean;
}

/** Compose's version: it is tested. Its default user needs a password to be let in from outside the container. */
const DOCKER = 'docker run --rm --publish 127.0.0.1:8123:8123 --env CLICKHOUSE_PASSWORD=local clickhouse/clickhouse-server:25.8-alpine';

/** What local mode does on a machine. The library comes first: it is the version that everything is tested with. */
export function localModeOn({ platform, arch, library, program }: Machine): LocalPlan {
  return { clickhouse: clickHouseOn({ platform, arch, library, program }), diskBuffer: platform === 'linux' };
}

function clickHouseOn({ platform, arch, library, program }: Machine): LocalClickHouse {
  if (library !== undefined) return { kind: 'library', path: library };
  if (program !== undefined) return { kind: 'program', path: program };
  const remedy =
    platform === 'linux' && arch === 'x64'
      ? 'run npm ci without --omit=optional (glibc only)'
      : `none comes with npm for ${platform} ${arch}`;
  return {
    kind: 'none',
    advice: `There is no ClickHouse to start: ${remedy}; install one so that \`clickhouse\` is on the PATH; or run \`${DOCKER}\` and set CLICKHOUSE_URL=http://default:local@127.0.0.1:8123.`,
  };
}

/** This machine. */
export function thisMachine(): Machine {
  return { platform: process.platform, arch: process.arch, library: findLibrary(), program: findProgram('clickhouse') };
}

function findLibrary(): string | undefined {
  try {
    return createRequire(import.meta.url).resolve('@chdb/lib-linux-x64-gnu/libchdb.so');
  } catch {
    return undefined;
  }
}

function findProgram(name: string): string | undefined {
  const paths = (process.env.PATH ?? '')
    .split(delimiter)
    .filter(Boolean)
    .map((folder) => join(folder, name));
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  });
}
