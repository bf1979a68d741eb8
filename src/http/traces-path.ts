import type { IncomingMessage } from 'node:http';

const TRACES_PATH = '/v1/traces';

/** The path with additional slashes, as from exporters that append it to an endpoint with a slash at its end. */
const WITH_SLASHES = /^\/+v1\/traces\/*(?=$|\?)/;

/** Removes additional slashes from the path of traces; the query is kept. */
export function normalizePath(request: IncomingMessage): void {
  const { url } = request;
  if (url === TRACES_PATH || url === undefined) return;
  request.url = url.replace(WITH_SLASHES, TRACES_PATH);
}
