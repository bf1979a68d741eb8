import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { FastifyServerOptions } from 'fastify';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';

/*
 * One Nest app behind three ports. Each port has an http.Server of its own, and all hand their requests to the same
 * Fastify router; the constraint `port` on a route makes a path answer on its own port only.
 */

export type PortName = 'otlp' | 'admin' | 'healthcheck';

const NAME = Symbol('port name');
type NamedServer = Server & { [NAME]?: PortName };

const HEADERS_TIMEOUT_MS = 30_000;
/** Longer than the load balancers in front keep connections, so that none is closed under a request. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000;

/** The server of one port. How long a body may take is decided by its reader (REQUEST_TIMEOUT_MS). */
export function createPortServer(name: PortName, listener: RequestListener): Server {
  const server: NamedServer = createServer({ headersTimeout: HEADERS_TIMEOUT_MS, keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS, requestTimeout: 0 }, listener);
  server[NAME] = name;
  return server;
}

/** The port a request came in by. */
export function portOf(request: IncomingMessage): PortName | undefined {
  return (request.socket as unknown as { server?: NamedServer }).server?.[NAME];
}

/** find-my-way's store of the handlers of one path, by port. */
function handlersByPort() {
  const handlers = new Map<unknown, unknown>();
  return { get: (port: unknown) => handlers.get(port) ?? null, set: (port: unknown, handler: unknown) => void handlers.set(port, handler) };
}

/** Fastify, with the constraint on ports. It serves the OTLP port itself. */
export function createAdapter(): FastifyAdapter {
  const port = { name: 'port', mustMatchWhenDerived: true, deriveConstraint: portOf, storage: handlersByPort };
  const options = {
    serverFactory: (handler: RequestListener) => createPortServer('otlp', handler),
    routerOptions: { constraints: { port } },
    // Requests that come while the app closes get our answer, which says when to come back.
    return503OnClosing: false,
    // Nest's middleware engine costs every request, and nothing here is middleware.
    skipMiddie: true,
    logger: false,
  };
  return new FastifyAdapter(options as FastifyServerOptions);
}

/** Makes every body, whatever its type, reach its controller as a stream of which nothing has been read. */
export function leaveBodiesUnread(app: NestFastifyApplication): void {
  const fastify = app.getHttpAdapter().getInstance();
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', (_request, stream, done) => done(null, stream));
  fastify.decorateRequest('target', null);
}
