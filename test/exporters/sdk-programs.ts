import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { comparedWithout, type Limit, NO_LINK_TRACE_STATE, ONLY_FINITE, SIMPLE_VALUES } from './limits.ts';
import { type Encoding, exporterVariables, type Sender } from './sender.ts';
import { pathOf, run } from './toolchains.ts';

/* SDKs of other languages: programs that are given the spans in a file, and the rest by the variables of the specification. */

interface SdkProgram {
  readonly name: string;
  readonly command: readonly [program: string, ...args: string[]];
  readonly settings: readonly {
    readonly encoding: Encoding;
    readonly compressions: readonly string[];
    readonly limits: readonly Limit[];
  }[];
}

const PROTOCOLS: Readonly<Record<Encoding, string>> = { proto: 'http/protobuf', json: 'http/json', grpc: 'grpc' };

export function pythonSenders(request: OtlpRequest, interpreter: string): Sender[] {
  return sendersOf(request, {
    name: 'Python SDK',
    command: [interpreter, pathOf('python/sender.py')],
    settings: [
      { encoding: 'proto', compressions: ['none', 'gzip', 'deflate'], limits: [NO_LINK_TRACE_STATE] },
      { encoding: 'grpc', compressions: ['none', 'gzip'], limits: [NO_LINK_TRACE_STATE] },
    ],
  });
}

export function rustSenders(request: OtlpRequest, program: string): Sender[] {
  const compressions = ['none', 'gzip', 'zstd'];
  return sendersOf(request, {
    name: 'Rust SDK',
    command: [program],
    settings: [
      { encoding: 'proto', compressions, limits: [SIMPLE_VALUES] },
      { encoding: 'json', compressions, limits: [SIMPLE_VALUES, ONLY_FINITE] },
      { encoding: 'grpc', compressions, limits: [SIMPLE_VALUES] },
    ],
  });
}

function sendersOf(request: OtlpRequest, { name, command: [program, ...args], settings }: SdkProgram): Sender[] {
  return settings.flatMap(({ encoding, compressions, limits }) =>
    compressions.map((compression) => ({
      name,
      encoding,
      compression,
      compared: comparedWithout(request, limits),
      send: (to) =>
        withFile(encodeRequest(request), async (file) => {
          const variables = exporterVariables(encoding === 'grpc' ? to.grpcUrl : to.httpUrl, compression, to.headers);
          const output = await run(program, [...args, file], { env: { ...variables, OTEL_EXPORTER_OTLP_PROTOCOL: PROTOCOLS[encoding] } });
          // The SDKs only write when something is wrong.
          if (output !== '') throw new Error(output);
        }),
    })),
  );
}

async function withFile(content: Uint8Array, use: (file: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'exporters-'));
  const file = join(folder, 'request.pb');
  try {
    writeFileSync(file, content);
    await use(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
