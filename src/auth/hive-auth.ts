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
/** Hive's words go into the answer to the sender. */
const MAX_MESSAGE_LENGTH = 300;

/**
 * Asks the auth endpoint whether the credentials are good, up to three times.
 * @param timeoutMs longest wait for one answer, its body included
 * @throws AuthOutage when it can't be reached, is too slow, or answers with neither a target nor a refusal
 */
export function askHive(endpoint: string, timeoutMs: number, credentials: Credentials): Promise<AuthVerdict> {
  return pRetry(() => askOnce(endpoint, timeoutMs, credentials), RETRIES);
}

async function askOnce(endpoint: string, timeoutMs: number, credentials: Credentials): Promise<AuthVerdict> {
  try {
    const response = await fetch(endpoint, {
      headers: { Accept: 'application/json', Authorization: credentials.authorization, 'X-Hive-Target-Ref': credentials.targetRef },
      // A redirect could carry the token to another host.
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    });
    return await verdictOf(response, credentials);
  } catch (error) {
    throw error instanceof AuthOutage ? error : new AuthOutage(causeOf(error, timeoutMs));
  }
}

async function verdictOf(response: Response, credentials: Credentials): Promise<AuthVerdict> {
  const httpStatus = response.status;
  if (httpStatus === 200) {
    const targetId = text(await readJson(response), 'targetId');
    if (targetId === undefined) throw new AuthOutage('status 200 without a targetId');
    return { status: 'accepted', targetId };
  }
  if (isRefusal(httpStatus)) {
    // The status is the verdict: a body that can't be read costs only the message.
    const body = await readJson(response).catch(() => undefined);
    const message = text(body, 'message') ?? text(body, 'error');
    // It may be logged: an endpoint that quotes the token is not quoted.
    const isQuotable = message !== undefined && !message.includes(tokenOf(credentials));
    return { status: 'refused', httpStatus, message: isQuotable ? message.slice(0, MAX_MESSAGE_LENGTH).toWellFormed() : undefined };
  }
  await response.body?.cancel();
  throw new AuthOutage(`status ${httpStatus}`);
}

/** Without the scheme before it. */
function tokenOf({ authorization }: Credentials): string {
  return authorization.trim().split(/\s+/).at(-1) ?? '';
}

function isRefusal(httpStatus: number): httpStatus is RefusedStatus {
  return httpStatus === 400 || httpStatus === 401 || httpStatus === 403 || httpStatus === 404;
}

/** The body as JSON; undefined when it is something else, or longer than any answer of Hive's. */
async function readJson(response: Response): Promise<unknown> {
  if (response.body === null) return undefined;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) return undefined;
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return undefined;
  }
}

/** The member's value when it is a string that isn't empty. */
function text(body: unknown, member: string): string | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const value: unknown = Reflect.get(body, member);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Only codes and names: the text of an error of `fetch` can quote the headers. */
function causeOf(error: unknown, timeoutMs: number): string {
  if (!(error instanceof Error)) return 'unknown error';
  if (error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  const { cause } = error;
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : error.name;
}
