import type { Random } from './random.ts';

/* Random HTTP/1.1 requests for /v1/traces, as senders, proxies and attackers send them: plain, unusual or broken. */

/** The path in the forms that exporters send. */
const PATHS: readonly string[] = ['/v1/traces', '/v1/traces', '/v1/traces', '//v1/traces', '/v1/traces/', '//v1/traces/'];

const PLAIN: readonly string[] = [
  'Accept: */*',
  'User-Agent: OTel-OTLP-Exporter-JavaScript/0.57.0',
  'X-Request-Id: 0b1c',
  'Connection: keep-alive',
  'Content-Encoding: identity',
  'X-Padding:  a  ',
  'Te: trailers',
  'X-Empty:',
  'X-Latin: caf\xe9',
];
const UNUSUAL: readonly string[] = [
  'Connection: close',
  'Connection: Keep-Alive',
  'Connection: keep-alive, x-latin',
  'Proxy-Connection: keep-alive',
  'Proxy-Connection: close',
  'Expect: 100-continue',
  'Expect: anything',
  'Upgrade: websocket',
  'Trailer: X-Later',
  'Origin: http://localhost',
  'Host: another',
  'Host: collector',
  'Authorization: Bearer second',
  'Content-Type: text/plain',
  'Content-Length: 3',
  'Content-Length: 03',
  'Content-Length: +3',
  'Content-Length: 3, 3',
  'Content-Length:',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: CHUNKED',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: identity',
  'X-Padding:\t a \t',
  'X-Control: \x01',
  'X-Delete: \x7f',
  'X-Line: a\rb',
  'X-Null: \x00',
  ' X-Folded: begin',
  'X-Space : a',
  'X(Name): a',
  '__proto__: a',
  'no colon',
  ': no name',
  `X-Long: ${'x'.repeat(9_000)}`,
];

const HOSTS: readonly string[] = ['collector', 'collector:4318', '127.0.0.1:4318', '[::1]', 'collector.example.com', 'a_b', ''];
const INVALID_HOSTS: readonly string[] = [
  'a b',
  'a/b',
  'user@collector',
  'collector:port',
  '[::1',
  'a"b',
  'caf\xe9',
  'a%zz',
  'http://collector',
];

/** One request. Half of all requests are plain: such as nearly all senders write. */
export function randomRequest(random: Random): Buffer {
  const body = random.bytes(random.chance(0.15) ? random.below(200_000) : random.below(2_000));
  const isPlain = random.chance(0.5);
  const isChunked = random.chance(0.5);
  const space = isPlain ? '' : random.pick(['', '', '', ' ', '\t']);
  const framing = `${isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`}${space}`;
  const host = random.pick(isPlain || random.chance(0.9) ? HOSTS : INVALID_HOSTS);
  const headers = [
    `Host: ${host}`,
    'Authorization: Bearer token',
    'X-Hive-Target-Ref: a/b/c',
    'Content-Type: application/x-protobuf',
    framing,
  ];
  for (let more = random.below(4); more > 0; more--) headers.push(random.pick(PLAIN));
  if (!isPlain && random.chance(0.7)) headers.push(random.pick(UNUSUAL));
  if (!isPlain && random.chance(0.1)) headers.splice(random.below(headers.length), 1);
  const requestLine =
    isPlain || random.chance(0.8)
      ? `POST ${random.pick(PATHS)} HTTP/1.1`
      : random.pick([
          'GET /v1/traces HTTP/1.1',
          'POST /v1/traces HTTP/1.0',
          'POST /v1/traces HTTP/0.9',
          'POST /v1/traces HTTP/2.0',
          'POST /v1/traces',
          'POST /v1/traces?a=b HTTP/1.1',
          'POST  /v1/traces HTTP/1.1',
          'post /v1/traces HTTP/1.1',
          '\r\nPOST /v1/traces HTTP/1.1',
          'POST /other HTTP/1.1',
          'POST ///v1/traces// HTTP/1.1',
          'POST /v1/traces/?a=b HTTP/1.1',
          'POST /v1//traces HTTP/1.1',
        ]);
  const head = `${[requestLine, ...random.shuffled(headers).map((header) => randomCase(header, random))].join('\r\n')}\r\n\r\n`;
  const bytes = Buffer.concat([Buffer.from(head, 'latin1'), isChunked ? inChunks(body, isPlain, random) : body]);
  return isPlain || random.chance(0.7) ? bytes : broken(bytes, head.length, random);
}

/** The requests of one connection, in order. The last one is sometimes cut off. */
export function randomConnection(random: Random): Buffer[] {
  const requests = Array.from({ length: random.between(1, 4) }, () => randomRequest(random));
  // Most senders send the same headers each time.
  if (random.chance(0.3)) requests.push(...requests);
  if (random.chance(0.1)) requests[requests.length - 1] = requests.at(-1)!.subarray(0, random.below(requests.at(-1)!.length));
  return requests;
}

/** Splits bytes at random places, to be sent piece by piece. */
export function randomPieces(bytes: Buffer, random: Random): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = random.chance(0.2) ? random.between(1, 20) : random.between(1, bytes.length);
    pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  return pieces;
}

function randomCase(header: string, random: Random): string {
  const colon = header.indexOf(':');
  const name = header.slice(0, colon);
  return random.pick([name, name.toLowerCase(), name.toUpperCase()]) + header.slice(colon);
}

function inChunks(body: Buffer, isPlain: boolean, random: Random): Buffer {
  const pieces: Buffer[] = [];
  const chunks = random.chance(0.05) ? 200 : random.between(1, 5);
  for (let at = 0; at < body.length;) {
    const chunk = body.subarray(at, at + random.between(1, Math.ceil((2 * body.length) / chunks)));
    const size = random.pick([chunk.length.toString(16), chunk.length.toString(16).toUpperCase(), `00${chunk.length.toString(16)}`]);
    const extension = isPlain || random.chance(0.8) ? '' : random.pick([';a=b', ';', ' ', '\t;a']);
    pieces.push(Buffer.from(`${size}${extension}\r\n`), chunk, Buffer.from('\r\n'));
    at += chunk.length;
  }
  const end =
    isPlain || random.chance(0.8)
      ? '0\r\n\r\n'
      : random.pick(['0\r\nX-Later: 1\r\n\r\n', '000\r\n\r\n', '0;a=b\r\n\r\n', '0\r\n', '0\n\n', '\r\n0\r\n\r\n', '0\r\n\r\n\r\n']);
  return Buffer.concat([...pieces, Buffer.from(end)]);
}

/** Adds, removes or replaces a byte in the head or in the framing of the body. */
function broken(bytes: Buffer, headLength: number, random: Random): Buffer {
  const at = random.chance(0.5) ? random.below(headLength) : headLength + random.below(Math.min(8, bytes.length - headLength + 1));
  const other = Buffer.from(random.pick(['\r', '\n', ' ', '\t', ':', '0', 'a', ';', '\x00', '\xff', '\r\n']), 'latin1');
  const removed = random.below(2);
  return Buffer.concat([bytes.subarray(0, at), random.chance(0.7) ? other : Buffer.alloc(0), bytes.subarray(at + removed)]);
}
