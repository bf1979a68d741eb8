import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../support/collector.ts';
import { freePorts } from '../support/free-ports.ts';
import type { Destination, Encoding } from './sender.ts';

/* An OpenTelemetry Collector that passes on what it receives: with a queue, and with retries. */

export interface Otelcol extends AsyncDisposable {
  /** Its OTLP/HTTP receiver: http://HOST:PORT */
  readonly url: string;
  /** Sends what is in its queue, and ends. @throws with its log unless it ends well */
  stop(): Promise<void>;
}

export async function startOtelcol(program: string, to: Destination, encoding: Encoding, compression: string): Promise<Otelcol> {
  const [port] = await freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const folder = mkdtempSync(join(tmpdir(), 'otelcol-'));
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify(configuration(port, to, encoding, compression)));

  const child = spawn(program, ['--config', `file:${file}`], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const exited = once(child, 'close').then(([code]: (number | null)[]) => code);
  const otelcol: Otelcol = {
    url,
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

/** YAML is a superset of JSON. */
function configuration(port: number, { httpUrl, grpcUrl, headers }: Destination, encoding: Encoding, compression: string): object {
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
  return {
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    exporters,
    service: {
      pipelines: { traces: { receivers: ['otlp'], exporters: Object.keys(exporters) } },
      telemetry: { metrics: { level: 'none' } },
    },
  };
}

async function listens(url: string): Promise<boolean> {
  try {
    await fetch(url);
    return true;
  } catch {
    return false;
  }
}
