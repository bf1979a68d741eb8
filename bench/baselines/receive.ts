import { createServer } from 'node:http';

/*
 * The minimum: a server that reads each body, drops it and answers 200. No collector on Node's HTTP server can be cheaper.
 * `PORT=4318 node bench/baselines/receive.ts`
 */
const server = createServer((request, response) => {
  request.on('data', () => {});
  request.on('end', () => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '2' }).end('{}');
  });
});
server.listen(Number(process.env.PORT), '127.0.0.1');
process.once('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
