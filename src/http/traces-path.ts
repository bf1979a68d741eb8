import type { IncomingMessage } from 'node:http';

const TRACES_PATH = '/v1/traces';

/** The path as exporters come to write it that join an endpoint with a slash at its end to a path, or add one. */
const OTHER_WAYS = /^\/+v1\/traces\/*(?=$|\?)/;

/** Gives the path of traces its one name: whoever looks at it later finds `/v1/traces`, and behind it the query. */
export function nameOneWay(request: IncomingMessage): void {
  const { url } = request;
  if (url === TRACES_PATH || url === undefined) return;
  request.url = url.replace(OTHER_WAYS, TRACES_PATH);
}
