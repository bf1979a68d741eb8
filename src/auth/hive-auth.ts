import { once } from 'node:events';
import http, { type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import https from 'node:https';
import { pipeline, type Readable } from 'node:stream';
import { createBrotliDecompress, createUnzip } from 'node:zlib';
import pRetry from 'p-retry';
import type { Credentials } from './credentials.ts';

/** Hive's verdict on credentials. If there is none, `askHive` throws AuthOutage. */
export type AuthVerdict =
  | { readonly status: 'accepted'; readonly targetId: string }
  | { readonly status: 'refused'; readonly httpStatus: RefusedStatus; readonly message: string | undefined };

/** The statuses of a refusal that the client gets unchanged. */
export type RefusedStatus = 400 | 401 | 403 | 404;

/** Hive gave no verdict. The message names the cause for an operator, and contains nothing of the request. */
export class AuthOutage extends Error {
  constructor(cause: string) {
    super(cause);
    this.name = 'AuthOutage';
  }
}

/** Two retries, 100 to 200 ms and 200 to 400 ms after the attempt before. */
const RETRIES = { retries: 2, minTimeout: 100, factor: 2, randomize: true } as const;
/** The longest response that is read. Hive's are a few dozen bytes. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** The characters that a header value can have (RFC 9110, 5.5). */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const MAX_TARGET_ID_LENGTH = 256;
/** Hive's message is passed on to the client, up to this many characters. */
const MAX_MESSAGE_LENGTH = 300;

/**
 * Sends the credentials to the auth endpoint, with up to two retries.
 * @param timeoutMs longest wait for one response, including its body
 * @throws AuthOutage when it can't be reached, is too slow, or answers with neither a target nor a refusal
 */
export async function askHive(endpoint: string, timeoutMs: number, credentials: Credentials): Promise<AuthVerdict> {
  if (!HEADER_VALUE.test(credentials.authorization)) return { status: 'refused', httpStatus: 401, message: undefined };
  if (!HEADER_VALUE.test(credentials.targetRef)) return { status: 'refused', httpStatus: 400, message: undefined };
  return pRetry(() => askOnce(endpoint, timeoutMs, credentials), RETRIES);
}

async function askOnce(endpoint: string, timeoutMs: number, credentials: Credentials): Promise<AuthVerdict> {
  const headers = {
    'Accept': 'application/json',
    'Accept-Encoding': 'identity',
    'Authorization': credentials.authorization,
    'X-Hive-Target-Ref': credentials.targetRef,
  };
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    return await verdictOf(await get(endpoint, headers, signal), credentials);
  } catch (error) {
    if (signal.aborted) throw new AuthOutage(`no answer within ${timeoutMs} ms`);
    throw error instanceof AuthOutage ? error : new AuthOutage(causeOf(error));
  }
}

/**
 * Sends the request. Not with `fetch`, which treats an unexpected 100 Continue as the end of the connection. Redirects are not followed:
 * they could send the token to another host.
 */
async function get(endpoint: string, headers: OutgoingHttpHeaders, signal: AbortSignal): Promise<IncomingMessage> {
  const request = (endpoint.startsWith('https:') ? https : http).get(endpoint, { headers, signal });
  const response = once(request, 'response');
  // Later errors are raised where the body is read.
  request.on('error', () => {});
  const [message]: IncomingMessage[] = await response;
  return message;
}

async function verdictOf(response: IncomingMessage, credentials: Credentials): Promise<AuthVerdict> {
  const httpStatus = response.statusCode ?? 0;
  if (httpStatus === 200) {
    const targetId = text(await readJson(response), 'targetId');
    if (targetId === undefined) throw new AuthOutage('status 200 without a targetId');
    if (!isTargetId(targetId)) throw new AuthOutage('status 200 with a targetId that is too long, or has control characters');
    return { status: 'accepted', targetId };
  }
  if (!isRefusal(httpStatus)) {
    response.destroy();
    throw new AuthOutage(`status ${httpStatus}`);
  }
  // The status is the verdict: a body that can't be read costs only the message.
  const body = await readJson(response).catch(() => undefined);
  const message = text(body, 'message') ?? text(body, 'error');
  // The message may be logged, so it is dropped if it contains the token.
  const isQuotable = message !== undefined && !message.includes(tokenOf(credentials));
  return {
    status: 'refused',
    httpStatus: isOwnRefusal(httpStatus) ? httpStatus : 400,
    message: isQuotable ? message.slice(0, MAX_MESSAGE_LENGTH).toWellFormed() : undefined,
  };
}

/** The header Authorization without its scheme. */
function tokenOf({ authorization }: Credentials): string {
  return authorization.trim().split(/\s+/).at(-1) ?? '';
}

/**
 * Whether the status is a verdict on the credentials: unusual credentials may get an unusual 4xx, which must not count as an outage. A
 * status about the endpoint, or about a proxy in between, is no verdict.
 */
function isRefusal(httpStatus: number): boolean {
  return httpStatus >= 400 && httpStatus < 500 && !ABOUT_ENDPOINT.has(httpStatus);
}

/**
 * Statuses about the endpoint: Method Not Allowed, Proxy Authentication Required, Request Timeout, Misdirected Request, Too Early, Upgrade
 * Required, Too Many Requests.
 */
const ABOUT_ENDPOINT: ReadonlySet<number> = new Set([405, 407, 408, 421, 425, 426, 429]);

/** Whether the client gets the same status. Any other becomes 400, as HTTP clients treat an unknown 4xx (RFC 9110, 15). */
function isOwnRefusal(httpStatus: number): httpStatus is RefusedStatus {
  return httpStatus === 400 || httpStatus === 401 || httpStatus === 403 || httpStatus === 404;
}

/** Whether the id can be an attribute of each span and a label in logs and metrics. Hive's ids are UUIDs. */
function isTargetId(id: string): boolean {
  return id.length <= MAX_TARGET_ID_LENGTH && !/\p{C}/u.test(id);
}

/** The body as JSON; undefined if it is not JSON or longer than MAX_ANSWER_BYTES. */
async function readJson(response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of inflated(response) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) {
      response.destroy();
      return undefined;
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return undefined;
  }
}

/** The decompressed body: some proxies compress it although the request does not allow that. */
function inflated(response: IncomingMessage): Readable {
  const encoding = response.headers['content-encoding']?.toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return response;
  const inflate = encoding === 'br' ? createBrotliDecompress() : createUnzip();
  // An error of either stream destroys the other, and is raised where `inflate` is read.
  pipeline(response, inflate, () => {});
  return inflate;
}

/** The member's value if it is a non-empty string. */
function text(body: unknown, member: string): string | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const value: unknown = Reflect.get(body, member);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** The error's code or name, not its message, which may quote the headers. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}
