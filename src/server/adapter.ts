import type { RequestListener } from 'node:http';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest, FastifyServerOptions } from 'fastify';
import { PortServer, portOf, portServerOf } from '../http/port-server.ts';
import { brokenUrl } from '../otlp/refusal.ts';

/*
 * One Nest app behind three ports. Each port has an http.Server of its own, and all hand their requests to the same
 * Fastify router; the constraint `port` on a route makes a path answer on its own port only.
 */

/** find-my-way's store of the handlers of one path, by port. */
function handlersByPort() {
  const handlers = new Map<unknown, unknown>();
  return { get: (port: unknown) => handlers.get(port) ?? null, set: (port: unknown, handler: unknown) => void handlers.set(port, handler) };
}

/** Fastify, with the constraint on ports. It serves the OTLP port itself. */
export function createAdapter(): FastifyAdapter {
  const port = { name: 'port', mustMatchWhenDerived: true, deriveConstraint: portOf, storage: handlersByPort };
  const options = {
    serverFactory: (handler: RequestListener) => new PortServer('otlp', handler).server,
    // PortServer answers these.
    clientErrorHandler: () => {},
    frameworkErrors: (_error: Error, { raw, url }: FastifyRequest, reply: FastifyReply) => {
      portServerOf(raw)?.refuse(brokenUrl(url), reply.raw);
    },
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
  fastify.decorateRequest('trace', null);
}
