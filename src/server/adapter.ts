import type { RequestListener } from 'node:http';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest, FastifyServerOptions } from 'fastify';
import { PortServer, portOf, portServerOf } from '../http/port-server.ts';
import { brokenUrl } from '../otlp/refusal.ts';

/*
 * One Nest app with three ports. Each port has its own http.Server, and all share one Fastify router. The constraint `port` on a route
 * makes it answer on that port only.
 */

/** The store for find-my-way: the handlers of one path by port. */
function handlersByPort() {
  const handlers = new Map<unknown, unknown>();
  return { get: (port: unknown) => handlers.get(port) ?? null, set: (port: unknown, handler: unknown) => void handlers.set(port, handler) };
}

/** Creates the Fastify adapter with the constraint `port`. Its own server is that of the OTLP port. */
export function createAdapter(): FastifyAdapter {
  const port = { name: 'port', mustMatchWhenDerived: true, deriveConstraint: portOf, storage: handlersByPort };
  const options = {
    serverFactory: (handler: RequestListener) => new PortServer('otlp', handler).server,
    // PortServer answers client errors.
    clientErrorHandler: () => {},
    frameworkErrors: (_error: Error, { raw, url }: FastifyRequest, reply: FastifyReply) => {
      portServerOf(raw)?.refuse(brokenUrl(url), reply.raw);
    },
    routerOptions: { constraints: { port } },
    // Requests during the shutdown get the collector's own answer, with a Retry-After.
    return503OnClosing: false,
    // Nest's middleware engine would cost time for every request, and there is no middleware.
    skipMiddie: true,
    logger: false,
  };
  return new FastifyAdapter(options as FastifyServerOptions);
}

/** Passes every body, of any type, to its controller as an unread stream. */
export function leaveBodiesUnread(app: NestFastifyApplication): void {
  const fastify = app.getHttpAdapter().getInstance();
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', (_request, stream, done) => done(null, stream));
  fastify.decorateRequest('target', null);
  fastify.decorateRequest('trace', null);
}
