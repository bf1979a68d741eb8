import { once } from 'node:events';
import http, { type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import https from 'node:https';
import { pipeline, type Readable } from 'node:stream';
import { createBrotliDecompress, createUnzip } from 'node:zlib';
import pRetry from 'p-retry';
import type { Credentials } from './credentials.ts';

/** What Hive says about credentials. That it says nothing is an AuthOutage. */
export type AuthVerdict =
  | { readonly status: 'accepted'; readonly targetId: string }
  | { readonly status: 'refused'; readonly httpStatus: RefusedStatus; readonly message: string | undefined };

export type RefusedStatus = 400 | 401 | 403 | 404;

/** Hive gave no verdict. The message names the cause for an operator, and holds nothing of the request. */
export class AuthOutage extends Error {
  constructor(cause: string) {
    super(cause);
    this.name = 'AuthOutage';
  }
}

/** The first attempt and two more, 100 to 200 ms and 200 to 400 ms after the one before. */
const RETRIES = { retries: 2, minTimeout: 100, factor: 2, randomize: true } as const;
/** The answers are a few dozen bytes; this is what is read of an endpoint gone wrong. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** RFC 9110, 5.5. Nothing else can be sent in a header. */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const MAX_TARGET_ID_LENGTH = 256;
/** Hive's words go into the answer to the sender. */
const MAX_MESSAGE_LENGTH = 300;

/**
 * Asks the auth endpoint whether the credentials are good, up to three times.
 * @param timeoutMs longest wait for one answer, its body included
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
 * Not with `fetch`, which takes a 100 Continue that nobody asked for as the end of the connection. Redirects are not followed: one
 * could carry the token to another host.
 */
async function get(endpoint: string, headers: OutgoingHttpHeaders, signal: AbortSignal): Promise<IncomingMessage> {
  const request = (endpoint.startsWith('https:') ? https : http).get(endpoint, { headers, signal });
  const response = once(request, 'response');
  // Of what happens later, whoever reads the body is told.
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
  // It may be logged: an endpoint that quotes the token is not quoted.
  const isQuotable = message !== undefined && !message.includes(tokenOf(credentials));
  return {
    status: 'refused',
    httpStatus: isOwnRefusal(httpStatus) ? httpStatus : 400,
    message: isQuotable ? message.slice(0, MAX_MESSAGE_LENGTH).toWellFormed() : undefined,
  };
}

/** Without the scheme before it. */
function tokenOf({ authorization }: Credentials): string {
  return authorization.trim().split(/\s+/).at(-1) ?? '';
}

/**
 * Whether it is about these credentials. Whoever sends some that are odd enough gets an odd answer, which must not count as an
 * outage. What is about the endpoint, or the way to it, is one: a wrong URL, a proxy in between, an overload.
 */
function isRefusal(httpStatus: number): boolean {
  return httpStatus >= 400 && httpStatus < 500 && !ABOUT_ENDPOINT.has(httpStatus);
}

/** Method Not Allowed, Proxy Authentication Required, Request Timeout, Misdirected Request, Too Early, Upgrade Required, Too Many Requests. */
const ABOUT_ENDPOINT: ReadonlySet<number> = new Set([405, 407, 408, 421, 425, 426, 429]);

/** Others are told to the sender as 400, for which HTTP clients take a 4xx that they don't know (RFC 9110, 15). */
function isOwnRefusal(httpStatus: number): httpStatus is RefusedStatus {
  return httpStatus === 400 || httpStatus === 401 || httpStatus === 403 || httpStatus === 404;
}

/** It becomes an attribute of each span, and is in logs and metrics. Hive's are UUIDs. */
function isTargetId(id: string): boolean {
  return id.length <= MAX_TARGET_ID_LENGTH && !/\p{C}/u.test(id);
}

/** The body as JSON; undefined when it is something else, or longer than any answer of Hive's. */
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

/** Proxies compress what nobody has asked them to compress. */
function inflated(response: IncomingMessage): Readable {
  const encoding = response.headers['content-encoding']?.toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return response;
  const inflate = encoding === 'br' ? createBrotliDecompress() : createUnzip();
  // An error of either ends the other; it is told to whoever reads.
  pipeline(response, inflate, () => {});
  return inflate;
}

/** The member's value when it is a string that isn't empty. */
function text(body: unknown, member: string): string | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const value: unknown = Reflect.get(body, member);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Only codes and names: the text of an error can quote the headers. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}
