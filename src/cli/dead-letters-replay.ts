import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/variables.ts';
import type { DeadLetter, DeadLetterFolder } from '../dead-letters/dead-letter-folder.ts';
import type { Endpoint } from '../storage/endpoint.ts';
import { Endpoints } from '../storage/endpoints.ts';
import { insertTarget, type InsertOutcome } from '../storage/insert.ts';

/** The longest wait for ClickHouse to become available. */
const CONNECT_TIMEOUT_MS = 15_000;

/** A replay stopped. Dead letters that were not replayed are kept. */
export class ReplayError extends Error {
  override readonly name = 'ReplayError';
}

/**
 * Sends dead letters to ClickHouse, each with its own token, and removes those that are stored. Each is stored once, even if the replay
 * is interrupted and run again. A dead letter that is refused again is kept.
 * @param onOutcome called for each dead letter that was stored or refused
 * @throws ReplayError when ClickHouse is not available, or when a dead letter belongs to another table than the environment's, which would
 *   not recognise its token
 */
export async function replay(
  config: Config,
  folder: DeadLetterFolder,
  deadLetters: readonly DeadLetter[],
  onOutcome: (deadLetter: DeadLetter, outcome: InsertOutcome) => void,
): Promise<void> {
  const target = insertTarget(config);
  const other = deadLetters.find(({ query }) => !query.startsWith(`${target} `));
  if (other !== undefined) {
    throw new ReplayError(
      `${other.token} was sent with ${other.query.slice(0, other.query.lastIndexOf(' ('))}, but the environment names ${target} ` +
        '(CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE). Nothing was sent. To send it to another table, export it and use replay.sh.',
    );
  }
  const endpoints = new Endpoints(config);
  try {
    for (const deadLetter of deadLetters) {
      const endpoint = await endpointWithTimeout(endpoints, deadLetter.server);
      const block = await folder.block(deadLetter.token);
      // Written before the insert: if the replay is interrupted, the block may be stored on that server.
      const isElsewhere = deadLetter.server !== endpoint.deduplicationDomain;
      if (isElsewhere) await folder.write({ ...deadLetter, server: endpoint.deduplicationDomain }, block);
      const outcome = await endpoint.insert([block], deadLetter.token, true);
      if (isElsewhere && outcome.status === 'retry' && outcome.error.nothingStored) await folder.write(deadLetter, block);
      if (outcome.status === 'retry')
        throw new ReplayError(`${deadLetter.token} could not be sent to ${endpoint.name}: ${outcome.error.message}`);
      if (outcome.status === 'inserted') await folder.remove(deadLetter.token);
      onOutcome(deadLetter, outcome);
    }
  } finally {
    await endpoints.close();
  }
}

/**
 * The server to send a dead letter to, once it is up: one of the deduplication domain that may have stored it already.
 * @throws ReplayError when none is up within CONNECT_TIMEOUT_MS
 */
async function endpointWithTimeout(endpoints: Endpoints, server: string): Promise<Endpoint> {
  const cancel = new AbortController();
  const tooLong = sleep(CONNECT_TIMEOUT_MS, undefined, { signal: cancel.signal }).then(() => {
    const states = endpoints.all.map(
      ({ name, availability: { status } }) => `${name} ${status.state === 'up' ? 'is up' : `is ${status.state}: ${status.reason}`}`,
    );
    throw new ReplayError(`ClickHouse is not available. ${states.join('; ')}`);
  });
  try {
    return await Promise.race([endpoints.ready(server), tooLong]);
  } finally {
    cancel.abort();
    tooLong.catch(() => {});
  }
}
