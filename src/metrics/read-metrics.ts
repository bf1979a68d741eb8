import type { Provider } from '@nestjs/common';
import { getToken, makeCounterProvider, makeGaugeProvider } from '@willsoto/nestjs-prometheus';
import { register, type Counter, type Gauge, type Metric } from 'prom-client';
import type { Histogram } from '../telemetry/histogram.ts';

/*
 * Metrics that are plain numbers in the services. They are read when /metrics is scraped: for a request, counting is one addition.
 */

type Service = abstract new (...args: never[]) => unknown;
type InstanceOf<S> = S extends abstract new (...args: never[]) => infer Instance ? Instance : never;
type Labels = Readonly<Record<string, string>>;

/** Makes a counter whose value is a number of a service, read by `read` at each scrape. */
export function counter<S extends Service>(
  name: string,
  help: string,
  service: S,
  read: (service: InstanceOf<S>) => number,
  labels: Labels = {},
): Provider {
  return makeCounterProvider({
    name,
    help,
    labelNames: Object.keys(labels),
    inject: [service],
    collect(this: Counter, instance: InstanceOf<S>) {
      this.reset();
      this.inc(labels, read(instance));
    },
  });
}

/** Makes a counter with several values of a service, each with its own value of `label`. */
export function counters<S extends Service>(
  name: string,
  help: string,
  label: string,
  service: S,
  read: (service: InstanceOf<S>) => Iterable<readonly [string, number]> | Promise<Iterable<readonly [string, number]>>,
  labels: Labels = {},
): Provider {
  return makeCounterProvider({
    name,
    help,
    labelNames: [label, ...Object.keys(labels)],
    inject: [service],
    async collect(this: Counter, instance: InstanceOf<S>) {
      const counts = await read(instance);
      this.reset();
      for (const [value, count] of counts) this.inc({ ...labels, [label]: value }, count);
    },
  });
}

/** Makes a gauge whose value is a number of a service, read by `read` at each scrape. */
export function gauge<S extends Service>(
  name: string,
  help: string,
  service: S,
  read: (service: InstanceOf<S>) => number,
  labels: Labels = {},
): Provider {
  return makeGaugeProvider({
    name,
    help,
    labelNames: Object.keys(labels),
    inject: [service],
    collect(this: Gauge, instance: InstanceOf<S>) {
      this.set(labels, read(instance));
    },
  });
}

/** Makes a metric of a service's histogram. It has the members of prom-client's metrics that the registry uses. */
export function histogram<S extends Service>(
  name: string,
  help: string,
  service: S,
  read: (service: InstanceOf<S>) => Histogram,
): Provider {
  return {
    provide: getToken(name),
    inject: [service],
    useFactory(instance: InstanceOf<S>) {
      const description = { name, help, type: 'histogram', aggregator: 'sum' };
      const metric = { ...description, reset() {}, get: async () => ({ ...description, values: valuesOf(name, read(instance)) }) };
      register.registerMetric(metric as unknown as Metric);
      return metric;
    },
  };
}

function valuesOf(name: string, { bounds, counts, sum }: Histogram) {
  let count = 0;
  const buckets = [...bounds, '+Inf'].map((le, bucket) => {
    count += counts[bucket];
    return { metricName: `${name}_bucket`, labels: { le }, value: count };
  });
  return [...buckets, { metricName: `${name}_sum`, value: sum }, { metricName: `${name}_count`, value: count }];
}
