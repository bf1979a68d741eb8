import type { IncomingMessage } from 'node:http';

const TRACES_PATH = '/v1/traces';

/** The path as exporters write it that join it to an endpoint with a slash at its end, or add a slash. */
const OTHER_WAYS = /^\/+v1\/traces\/*(?=$|\?)/;

/** Rewrites the path of traces to `/v1/traces`; the query stays behind it. */
export function nameOneWay(request: IncomingMessage): void {
  const { url } = request;
  if (url === TRACES_PATH || url === undefined) return;
  request.url = url.replace(OTHER_WAYS, TRACES_PATH);
}
