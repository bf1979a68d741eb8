import { send } from '../support/clients/otlp-client.ts';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { comparedWithout } from './limits.ts';
import type { Destination, Sender } from './sender.ts';

/** No exporter: it shows that the expected rows are right. */
export function requestItself(request: OtlpRequest): Sender {
  return {
    name: 'the request itself',
    encoding: 'proto',
    compression: 'none',
    compared: comparedWithout(request, []),
    send: ({ httpUrl, headers }) => post(request, httpUrl, headers),
  };
}

/** @throws unless it is taken */
export async function post(request: OtlpRequest, httpUrl: string, headers: Destination['headers']): Promise<void> {
  const { status, body } = await send(`${httpUrl}/v1/traces`, encodeRequest(request), {
    headers: { 'content-type': 'application/x-protobuf', ...headers },
  });
  if (status !== 200) throw new Error(`The request was answered ${status}: ${body.toString()}`);
}
