import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import type { Destination, Encoding } from './sender.ts';

/* An OpenTelemetry Collector, of the components in go/otelcol. */

export interface Otelcol extends AsyncDisposable {
  /** Its OTLP/HTTP receiver: http://HOST:PORT */
  readonly url: string;
  readonly pid: number;
  /** Sends what is in its queue, and ends. @throws with its log unless it ends well */
  stop(): Promise<void>;
}

/**
 * Starts one on a configuration whose OTLP receiver listens on HOST:PORT, `endpoint`, and waits until it does.
 * @throws with its log when it ends before
 */
export async function startOtelcol(program: string, configuration: (endpoint: string) => object): Promise<Otelcol> {
  const [port] = await freePorts(1);
  const endpoint = `127.0.0.1:${port}`;
  const url = `http://${endpoint}`;
  const folder = mkdtempSync(join(tmpdir(), 'otelcol-'));
  const file = join(folder, 'config.json');
  // YAML is a superset of JSON.
  writeFileSync(file, JSON.stringify(configuration(endpoint)));

  const child = spawn(program, ['--config', `file:${file}`], { env: { PATH: process.env.PATH }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const exited = once(child, 'close').then(([code]: (number | null)[]) => code);
  const otelcol: Otelcol = {
    url,
    pid: child.pid ?? 0,
    async stop() {
      child.kill('SIGTERM');
      const code = await exited;
      if (code !== 0) throw new Error(`The OpenTelemetry Collector ended with ${code}:\n${output}`);
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
      rmSync(folder, { recursive: true });
    },
  };
  try {
    await until(() => child.exitCode !== null || listens(url), 'the OpenTelemetry Collector listens');
    if (child.exitCode !== null) throw new Error(`The OpenTelemetry Collector ended with ${child.exitCode}`);
  } catch (error) {
    await otelcol[Symbol.asyncDispose]();
    throw new Error(output, { cause: error });
  }
  return otelcol;
}

/** Passes on what it receives: with a queue, and with retries. */
export function passesOn(
  { httpUrl, grpcUrl, headers }: Destination,
  encoding: Encoding,
  compression: string,
): (endpoint: string) => object {
  const exporter = {
    compression,
    headers,
    // One at a time, so that there is somebody to be refused when the first has used up the rate.
    sending_queue: { enabled: true, num_consumers: 1 },
    retry_on_failure: { enabled: true, initial_interval: '100ms', max_interval: '1s', max_elapsed_time: '60s' },
  };
  const exporters =
    encoding === 'grpc'
      ? { otlp_grpc: { ...exporter, endpoint: new URL(grpcUrl).host, tls: { insecure: true } } }
      : { otlp_http: { ...exporter, endpoint: httpUrl, encoding } };
  return (endpoint) => ({
    receivers: { otlp: { protocols: { http: { endpoint } } } },
    exporters,
    service: {
      pipelines: { traces: { receivers: ['otlp'], exporters: Object.keys(exporters) } },
      telemetry: { metrics: { level: 'none' } },
    },
  });
}

async function listens(url: string): Promise<boolean> {
  try {
    await fetch(url);
    return true;
  } catch {
    return false;
  }
}
