import { once } from 'node:events';
import type { RequestListener, Server } from 'node:http';
import { type AddressInfo, connect, type Server as NetServer, type Socket } from 'node:net';
import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { GrpcServer } from '../grpc/grpc-server.ts';
import { AllowedOrigins } from '../http/allowed-origins.ts';
import { PortServer, type PortName } from '../http/port-server.ts';
import type { WrongProtocol } from '../http/wrong-protocol.ts';
import { PlainTraces } from '../ingest/plain-traces.ts';
import { steerConnections } from '../runtime/reuse-port.ts';
import { RefusalLog } from '../ingest/refusal-log.ts';
import { shuttingDown } from '../otlp/refusal.ts';
import { RequestCounts, RequestTotals } from '../telemetry/request-counts.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import { leaveBodiesUnread } from './adapter.ts';
import { AdminGuard } from './admin-guard.ts';
import { allowOrigins } from './cors.ts';

const VARIABLES = {
  otlp: 'PORT',
  grpc: 'GRPC_PORT',
  admin: 'HEALTH_PORT',
  healthcheck: 'HEALTHCHECK_PORT',
} as const satisfies Record<PortName | 'grpc', keyof Config>;

/** The numbers of the open ports; that of gRPC only if it is enabled. */
export type OpenPorts = Readonly<Record<PortName, number> & { grpc?: number }>;

/** Threads that listen on the ports of senders. */
export interface ListeningThreads {
  /** Resolves when they can listen. */
  prepare(): Promise<void>;
  /** Lets them listen. @param own the ports of this thread, if it is to listen as well @throws the error of one that can't */
  listen(own: Ports): Promise<void>;
}

/**
 * A body has REQUEST_TIMEOUT_MS from the time on at which it is read. From the headers on it has this much more: for the answer of the
 * auth endpoint, and as the limit for bodies that are not read.
 */
const UNREAD_BODY_MS = 30_000;
/** At shutdown, the time for answers that are still being sent. */
const LAST_ANSWERS_MS = 250;
/** Connections that end in favor of another thread do so over this time: senders don't all connect again at once. */
const END_CONNECTIONS_MS = 2_000;
/** Longest wait for a program that may already listen on a port. */
const CONNECT_MS = 1_000;

/** A port can't be opened. The message names the variable to change. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

/** Opens and closes the three ports of HTTP, and that of gRPC. */
@Injectable()
export class Ports implements OnApplicationShutdown {
  private readonly full = new RepeatedLine(new Logger('Ports'), 'warn', 'New connections are closed: MAX_CONNECTIONS are open');
  private readonly wrongProtocols = {
    tls: new RepeatedLine(new Logger('Ports'), 'warn', 'TLS was sent to a port for plain HTTP'),
    http2: new RepeatedLine(new Logger('Ports'), 'warn', 'gRPC (HTTP/2) was sent to a port for HTTP/1.1'),
  };
  private ports: readonly PortServer[] = [];

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    private readonly counts: RequestCounts,
    private readonly totals: RequestTotals,
    private readonly refusals: RefusalLog,
    private readonly grpc: GrpcServer,
    private readonly plainTraces: PlainTraces,
  ) {}

  /**
   * Starts the app and opens its ports; the health ports first, so that probes are answered from the start.
   * @param threads listen on the ports of senders, if given
   * @returns the port numbers
   * @throws ListenError, or what `threads` throw
   */
  async open(app: NestFastifyApplication, threads?: ListeningThreads): Promise<OpenPorts> {
    await this.prepare(app);
    const [healthcheck, admin] = this.ports;
    const opened = { healthcheck: await this.listen(healthcheck.server, 'healthcheck'), admin: await this.listen(admin.server, 'admin') };
    if (threads === undefined) return { ...opened, ...(await this.openSenders()) };
    const { PORT: otlp, GRPC_PORT: grpc } = this.config;
    await threads.prepare();
    // Only now: another collector may be starting at the same time.
    await this.requireFree('otlp');
    await this.requireFree('grpc');
    await threads.listen(this);
    return { ...opened, otlp, ...(grpc !== undefined && { grpc }) };
  }

  /** Opens only the ports of senders. @param reusePort whether other threads also listen on them @throws ListenError */
  async openSenders(reusePort = false): Promise<Pick<OpenPorts, 'otlp' | 'grpc'>> {
    const otlp = await this.listen(this.ports.at(-1)!.server, 'otlp', reusePort);
    return { otlp, ...(this.config.GRPC_PORT !== undefined && { grpc: await this.listen(this.grpc.server, 'grpc', reusePort) }) };
  }

  /** Ends the open connections of senders soon. No request is lost: HTTP connections end with an answer, gRPC connections with a GOAWAY. */
  endConnections(): void {
    this.ports.at(-1)!.endConnections(END_CONNECTIONS_MS);
    this.grpc.endConnections(END_CONNECTIONS_MS);
  }

  /**
   * On standby, the open connections of senders end soon, and new ones with their first answer, so that senders find the ports of other
   * threads. The ports stay open: closing one would reset connections that wait to be accepted.
   */
  setStandby(isStandby: boolean): void {
    this.ports.at(-1)!.isStandby = isStandby;
    this.grpc.isStandby = isStandby;
    if (isStandby) this.endConnections();
  }

  /** Lets the kernel assign new connections of senders to some of the threads that listen. @param sockets see steerConnections */
  steer(sockets: readonly number[]): void {
    for (const { server } of [this.ports.at(-1)!, this.grpc]) if (server.listening) steerConnections(server, sockets);
  }

  /** Starts the app, without opening its ports. */
  async prepare(app: NestFastifyApplication): Promise<void> {
    leaveBodiesUnread(app);
    allowOrigins(app, this.config);
    await app.init();
    const fastify = app.getHttpAdapter().getInstance();
    await fastify.ready();
    const listener: RequestListener = (request, response) => fastify.routing(request, response);
    const otlp = PortServer.of(fastify.server);
    const admin = new PortServer('admin', listener);
    const healthcheck = new PortServer('healthcheck', listener);
    const guard = new AdminGuard(this.config.ADMIN_ALLOWED_HOSTS);
    admin.guard = (request) => guard.refusal(request);
    this.ports = [healthcheck, admin, otlp];
    for (const port of this.ports) {
      this.setTimeouts(port.server);
      port.onWrongProtocol = (protocol, client) => this.reportWrongProtocol(protocol, port.name, client);
    }
    // Longer than any request may take: a connection without traffic for that long has a client that does not read its answer.
    otlp.server.timeout = otlp.server.requestTimeout + this.config.ACK_TIMEOUT_MS;
    this.limitConnections(otlp.server, 'httpConnections');
    this.limitConnections(this.grpc.server, 'grpcConnections');
    const { open } = this.counts;
    otlp.onConnections = (connections) => (open.httpConnections = connections);
    this.grpc.onConnections = (connections) => (open.grpcConnections = connections);
    otlp.readPlain(this.plainTraces);
    const origins = new AllowedOrigins(this.config);
    // A preflight request stores nothing.
    otlp.guard = ({ method, headers: { origin, host } }) => (method === 'OPTIONS' ? undefined : origins.refusal(origin, host));
    otlp.maxAgeMs = this.config.MAX_CONNECTION_AGE_MS;
    otlp.onRefusal = (refusal) => this.refusals.add(refusal);
  }

  /** Checks that no other program listens on a port: it would get a part of the connections of the ingest threads. @throws ListenError */
  private async requireFree(name: 'otlp' | 'grpc'): Promise<void> {
    const port = this.config[VARIABLES[name]];
    if (port !== undefined && (await accepts(port, this.config.HOST))) throw this.taken(VARIABLES[name], port);
  }

  /** Refuses requests that are not answered yet (their body still arrives, or their token is looked up), then closes the ports. */
  async onApplicationShutdown(): Promise<void> {
    const listening = this.ports.filter(({ server }) => server.listening);
    for (const port of listening) port.refuseAll(shuttingDown());
    await Promise.all(listening.map(close));
  }

  private reportWrongProtocol(protocol: WrongProtocol, name: PortName, client: Socket): void {
    const { [VARIABLES[name]]: port, GRPC_PORT: grpcPort = 'off' } = this.config;
    const whereTo = protocol === 'tls' ? {} : { grpcPort };
    this.wrongProtocols[protocol].write({ variable: VARIABLES[name], port, client: client.remoteAddress, ...whereTo });
  }

  private setTimeouts(server: Server): void {
    server.headersTimeout = this.config.HEADERS_TIMEOUT_MS;
    server.requestTimeout = this.config.HEADERS_TIMEOUT_MS + this.config.REQUEST_TIMEOUT_MS + UNREAD_BODY_MS;
    server.keepAliveTimeout = this.config.KEEP_ALIVE_TIMEOUT_MS;
  }

  /** Sets MAX_CONNECTIONS. The health ports have no limit: probes must succeed when there are too many senders. */
  private limitConnections(server: NetServer, counted: 'httpConnections' | 'grpcConnections'): void {
    const { MAX_CONNECTIONS } = this.config;
    // Connections of other threads count as well. Node reads this property for each connection.
    const ofOthers = () => this.totals.now.open[counted] - this.counts.open[counted];
    Object.defineProperty(server, 'maxConnections', { get: () => MAX_CONNECTIONS - ofOthers() });
    server.on('drop', () => {
      this.counts.totals.droppedConnections++;
      this.full.write({ maxConnections: this.config.MAX_CONNECTIONS });
    });
  }

  /** Listens on a port. @param reusePort whether other threads also listen on it @throws ListenError */
  private async listen(server: NetServer, name: keyof typeof VARIABLES, reusePort = false): Promise<number> {
    const variable = VARIABLES[name];
    const port = this.config[variable];
    const { HOST } = this.config;
    try {
      server.listen({ port, host: HOST, reusePort });
      await once(server, 'listening');
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EADDRINUSE') throw this.taken(variable, port);
      throw new ListenError(`Port ${port} on ${HOST} can't be opened: ${message}. Change ${variable} or HOST.`);
    }
    return (server.address() as AddressInfo).port;
  }

  private taken(variable: string, port: number | undefined): ListenError {
    return new ListenError(
      `Port ${port} on ${this.config.HOST} is in use by another program. Stop it, or set ${variable} to another port.`,
    );
  }
}

/** Whether a program accepts connections on a port. @param host the address to listen on */
async function accepts(port: number, host: string): Promise<boolean> {
  const socket = connect({ port, host: host === '0.0.0.0' || host === '::' ? 'localhost' : host });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_MS) });
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** Stops listening and closes idle connections. The others may end by themselves within LAST_ANSWERS_MS. */
async function close(port: PortServer): Promise<void> {
  const closed = once(port.server, 'close');
  port.server.close();
  const tooLong = setTimeout(() => port.closeAllConnections(), LAST_ANSWERS_MS);
  await closed;
  clearTimeout(tooLong);
}
