import { accessSync, constants, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';

/** The properties of a machine that local mode depends on. */
export interface Machine {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** Path of ClickHouse as a library: an optional npm package for Linux x64 with glibc. */
  readonly library: string | undefined;
  /** Path of the `clickhouse` on the PATH. */
  readonly program: string | undefined;
}

/** A ClickHouse that can be started, or the advice how to get one. */
export type LocalClickHouse =
  | { readonly kind: 'library' | 'program'; readonly path: string }
  | { readonly kind: 'none'; readonly advice: string };

/** What local mode can start on a machine. */
export interface LocalPlan {
  readonly clickhouse: LocalClickHouse;
  /** The disk buffer needs Linux. */
  readonly diskBuffer: boolean;
}

/** The image of the docker-compose example. Without a password, it accepts connections from inside the container only. */
const DOCKER = 'docker run --rm --publish 127.0.0.1:8123:8123 --env CLICKHOUSE_PASSWORD=local clickhouse/clickhouse-server:25.8-alpine';

/** What local mode can start on a machine. It prefers the library, the version that the tests use. */
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
    advice:
      `There is no ClickHouse to start: ${remedy}; install one so that \`clickhouse\` is on the PATH; ` +
      `or run \`${DOCKER}\` and set CLICKHOUSE_URL=http://default:local@127.0.0.1:8123.`,
  };
}

/** The properties of this machine. */
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
