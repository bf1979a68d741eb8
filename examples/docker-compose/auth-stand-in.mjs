// A stand-in for the endpoint of GraphQL Hive that the collector checks tokens with, for this example only. It accepts
// EXAMPLE_TOKEN for every target, and answers as Hive's /otel-auth does: 200 with a targetId, or a refusal with a message.
import { createServer } from 'node:http';

const { PORT, EXAMPLE_TOKEN } = process.env;

function answerTo({ url, headers }) {
  if (url === '/health') return [200, {}];
  if (url !== '/otel-auth') return [404, { message: 'Not found' }];
  const target = headers['x-hive-target-ref'];
  if (!target) return [400, { message: 'Missing header: X-Hive-Target-Ref' }];
  if (headers.authorization !== `Bearer ${EXAMPLE_TOKEN}`) return [401, { message: 'This is not EXAMPLE_TOKEN of docker-compose.yml' }];
  return [200, { targetId: target }];
}

createServer((request, response) => {
  const [status, body] = answerTo(request);
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}).listen(Number(PORT));

process.on('SIGTERM', () => process.exit(0));
