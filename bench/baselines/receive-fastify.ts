import type { IncomingMessage } from 'node:http';
import fastify from 'fastify';

/* The same as receive.ts, with Fastify's router before it. `PORT=4318 node bench/baselines/receive-fastify.ts` */
const app = fastify();
app.removeAllContentTypeParsers();
app.addContentTypeParser('*', (_request, body: IncomingMessage, done) => {
  body.on('data', () => {});
  body.on('end', () => done(null));
});
app.post('/v1/traces', (_request, reply) => reply.type('application/json').send('{}'));
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
process.once('SIGTERM', () => {
  app.server.closeAllConnections();
  void app.close();
});
