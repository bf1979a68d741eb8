import { setTimeout as delay } from 'node:timers/promises';
import { Chance } from './chance.ts';
import { Answers, EXPORT_EVERY_MS, Gateway } from './gateway.ts';
import { graphqlRequest } from './trace.ts';

export interface LoadOptions {
  readonly seconds: number;
  /** The same seed, the same GraphQL requests, but for times and the beginning of ids. */
  readonly seed: number;
  /** Tells this run from others in the table: 8 hex digits, which its trace ids begin with. */
  readonly run: string;
  /** Ends it before its time. */
  readonly signal: AbortSignal;
  readonly onTick: (elapsedSeconds: number, so: Load) => void;
}

export interface Load {
  graphqlRequests: number;
  spans: number;
  readonly answers: Answers;
}

export const GATEWAYS = ['hive-gateway-7d4f9-2xkqp', 'hive-gateway-7d4f9-8mwzr', 'hive-gateway-7d4f9-vl5tn'];

const TICK_MS = 100;
/** GraphQL requests a second: they rise and fall twice in each run. */
const LEAST_PER_SECOND = 40;
const MOST_PER_SECOND = 120;

/**
 * Plays gateways for so long, and waits until all that they have sent is acknowledged.
 * @throws when the collector is away, or refuses spans for good
 */
export async function sendLoad(url: string, { seconds, seed, run, signal, onTick }: LoadOptions): Promise<Load> {
  const load: Load = { graphqlRequests: 0, spans: 0, answers: new Answers() };
  const chance = new Chance(seed);
  const startedMs = performance.now();
  // Not all at once: they share this process, and would wait for each other.
  const gateways = GATEWAYS.map(
    (name, index) => new Gateway(url, name, run, load.answers, startedMs - (index * EXPORT_EVERY_MS) / GATEWAYS.length),
  );
  const ticks = (seconds * 1_000) / TICK_MS;
  let due = 0;
  for (let tick = 0; tick < ticks && !signal.aborted; tick++) {
    const progress = tick / ticks;
    for (due += (perSecond(progress) * TICK_MS) / 1_000; due >= 1; due--) {
      const spans = graphqlRequest(chance, { progress, idPrefix: run, endMs: Date.now() - chance.next() * TICK_MS });
      gateways[load.graphqlRequests % gateways.length].add(spans);
      load.graphqlRequests++;
      load.spans += spans.length;
    }
    for (const gateway of gateways) gateway.exportIfDue();
    await delay(Math.max(0, startedMs + (tick + 1) * TICK_MS - performance.now()));
    onTick(((tick + 1) * TICK_MS) / 1_000, load);
  }
  await Promise.all(gateways.map((gateway) => gateway.finish()));
  return load;
}

function perSecond(progress: number): number {
  return LEAST_PER_SECOND + ((MOST_PER_SECOND - LEAST_PER_SECOND) * (1 - Math.cos(4 * Math.PI * progress))) / 2;
}
