import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type Headers, send } from '../test/support/clients/otlp-client.ts';
import { head } from '../test/support/clients/raw-socket.ts';
import { writeFirst } from '../test/support/clients/write-first.ts';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startCollector } from '../test/support/servers/collector.ts';
import { CREDENTIALS, startHiveWithVerdicts } from '../test/support/servers/hive-verdicts.ts';

const usage = `Measures how many senders of large bodies can read the response that refuses them, by client, status and size of the body.
Run npm run build first. Needs python3 with requests.

npx node bench/refused-bodies.ts [options]

  --connections N   requests at the same time (default 32)
  --rounds N        rounds of these (default 2)
  --sizes LIST      sizes of the bodies, in MB (default 2,15,24)
  --only TEXT       only clients whose names contain TEXT
`;
const values = commandLine(usage, {
  connections: { type: 'string', default: '32' },
  rounds: { type: 'string', default: '2' },
  sizes: { type: 'string', default: '2,15,24' },
  only: { type: 'string', default: '' },
});
const connections = positive('--connections', values.connections);
const rounds = positive('--rounds', values.rounds);

const MB = 1024 ** 2;
const MAX_REQUEST_MB = 1;
const sizes = values.sizes.split(',').map((size) => positive('--sizes', size));

interface Request {
  readonly url: string;
  readonly headers: Headers;
  readonly bytes: number;
  readonly isChunked: boolean;
}

/** Sends one request. @returns the status of the answer, or why there is none */
type Client = (request: Request) => Promise<string>;

const CLIENTS: Readonly<Record<string, Client>> = {
  'node:http': async ({ url, headers, bytes, isChunked }) => {
    const body = Buffer.alloc(bytes, ' ');
    const pieces = Array.from({ length: bytes / MB }, (_, at) => body.subarray(at * MB, (at + 1) * MB));
    return String((await send(url, isChunked ? pieces : body, { headers })).status);
  },
  'fetch': async ({ url, headers, bytes, isChunked }) => {
    const body = Buffer.alloc(bytes, ' ');
    const options = { method: 'POST', headers, ...(isChunked ? { body: new Blob([body]).stream(), duplex: 'half' as const } : { body }) };
    const answer = await fetch(url, options);
    await answer.arrayBuffer();
    return String(answer.status);
  },
  'a socket that writes first': ({ url, headers, bytes, isChunked }) => {
    const piece = Buffer.alloc(MB, ' ');
    const pieces = Array.from({ length: bytes / MB }, () =>
      isChunked ? Buffer.concat([Buffer.from(`${MB.toString(16)}\r\n`), piece, Buffer.from('\r\n')]) : piece,
    );
    const lengths: Headers = isChunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': String(bytes) };
    return writeFirst(url, head({ ...headers, ...lengths }), isChunked ? [...pieces, '0\r\n\r\n'] : pieces);
  },
  'Python requests': ({ url, headers, bytes, isChunked }) =>
    python(url, headers, isChunked ? `(b" " * ${MB} for _ in range(${bytes / MB}))` : `b" " * ${bytes}`),
};

/** A client that writes the whole body, or until EPIPE, before it reads. After a reset without EPIPE, the answer is lost. */
async function python(url: string, headers: Headers, body: string): Promise<string> {
  const program = `
import requests
try:
  print(requests.post("${url}", data=${body}, headers=${JSON.stringify(headers)}, timeout=20).status_code)
except requests.exceptions.RequestException as error:
  print(type(error).__name__)`;
  return (await promisify(execFile)('python3', ['-c', program])).stdout.trim();
}

await using hive = await startHiveWithVerdicts();
await using collector = await startCollector({
  env: { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: hive.url, ACK_MODE: 'received', MAX_REQUEST_MB: String(MAX_REQUEST_MB) },
});
const url = `${collector.url}/v1/traces`;
const REFUSALS: Readonly<Record<string, Headers>> = {
  401: { 'content-type': 'application/json' },
  403: { 'content-type': 'application/json', ...CREDENTIALS, authorization: 'Bearer read-only' },
  413: { 'content-type': 'application/json', ...CREDENTIALS },
};

const table: Record<string, Record<string, string>> = {};
let read = 0;
let all = 0;
for (const [name, client] of Object.entries(CLIENTS)) {
  if (!name.includes(values.only)) continue;
  for (const [status, headers] of Object.entries(REFUSALS)) {
    const row: Record<string, string> = {};
    for (const megabytes of sizes) {
      for (const isChunked of [false, true]) {
        const outcomes: string[] = [];
        for (let round = 0; round < rounds; round++) {
          const request = { url, headers, bytes: megabytes * MB, isChunked };
          outcomes.push(
            ...(await Promise.all(
              Array.from({ length: connections }, () =>
                client(request).catch(
                  (error: NodeJS.ErrnoException & { cause?: NodeJS.ErrnoException }) => error.code ?? error.cause?.code ?? error.message,
                ),
              ),
            )),
          );
        }
        const good = outcomes.filter((outcome) => outcome === status).length;
        read += good;
        all += outcomes.length;
        const others = [...new Set(outcomes.filter((outcome) => outcome !== status))].join(' ');
        row[`${megabytes} MB${isChunked ? ', chunked' : ''}`] = `${good} of ${outcomes.length}${others && ` (${others})`}`;
      }
    }
    table[`${name}, ${status}`] = row;
    console.error(name, status, JSON.stringify(row));
  }
}
console.table(table);
console.log(`${read} of ${all} answers were read.`);
