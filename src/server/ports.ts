import { once } from 'node:events';
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo, Server as NetServer } from 'node:net';
import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { GrpcServer } from '../grpc/grpc-server.ts';
import { createPortServer, leaveBodiesUnread, type PortName } from './adapter.ts';

const VARIABLES = { otlp: 'PORT', grpc: 'GRPC_PORT', admin: 'HEALTH_PORT', healthcheck: 'HEALTHCHECK_PORT' } as const satisfies Record<PortName | 'grpc', keyof Config>;

/** The number of each port; gRPC's only when it is on. */
export type OpenPorts = Readonly<Record<PortName, number> & { grpc?: number }>;

/** At the end, answers that are still being sent have this long. */
const LAST_ANSWERS_MS = 250;

/** A port that can't be listened on. The message names the variable to change. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

/** The three ports of HTTP, and that of gRPC. */
@Injectable()
export class Ports implements OnApplicationShutdown {
  private readonly logger = new Logger('Ports');
  private readonly config: Config;
  private readonly grpc: GrpcServer;
  private readonly servers: Server[] = [];

  constructor(@Inject(collectorConfig.KEY) config: Config, grpc: GrpcServer) {
    this.config = config;
    this.grpc = grpc;
  }

  /**
   * Starts the app and opens its ports; the health ports first, so that probes are answered from the start.
   * @returns the port numbers
   * @throws ListenError
   */
  async open(app: NestFastifyApplication): Promise<OpenPorts> {
    leaveBodiesUnread(app);
    await app.init();
    const fastify = app.getHttpAdapter().getInstance();
    await fastify.ready();
    const listener: RequestListener = (request, response) => fastify.routing(request, response);
    const admin = createPortServer('admin', listener);
    const healthcheck = createPortServer('healthcheck', listener);
    this.servers.push(healthcheck, admin, fastify.server);
    const ports: OpenPorts = {
      healthcheck: await this.listen(healthcheck, 'healthcheck'),
      admin: await this.listen(admin, 'admin'),
      otlp: await this.listen(fastify.server, 'otlp'),
      ...(this.config.GRPC_PORT !== undefined && { grpc: await this.listen(this.grpc.server, 'grpc') }),
    };
    this.logger.log({ host: this.config.HOST, ports, msg: 'Listening' });
    return ports;
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all(this.servers.filter(({ listening }) => listening).map(close));
  }

  private async listen(server: NetServer, name: keyof typeof VARIABLES): Promise<number> {
    const variable = VARIABLES[name];
    const port = this.config[variable];
    const { HOST } = this.config;
    try {
      server.listen({ port, host: HOST });
      await once(server, 'listening');
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EADDRINUSE') throw new ListenError(`Port ${port} on ${HOST} is taken by another program. Stop it, or set ${variable} to another port.`);
      throw new ListenError(`Port ${port} on ${HOST} can't be opened: ${message}. Change ${variable} or HOST.`);
    }
    return (server.address() as AddressInfo).port;
  }
}

/** Stops listening, ends idle connections, and lets the others end by themselves if they do it soon. */
async function close(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  const tooLong = setTimeout(() => server.closeAllConnections(), LAST_ANSWERS_MS);
  await closed;
  clearTimeout(tooLong);
}
