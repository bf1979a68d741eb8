import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/variables.ts';
import type { DeadLetter, DeadLetterFolder } from '../dead-letters/dead-letter-folder.ts';
import type { Endpoint } from '../storage/endpoint.ts';
import { Endpoints } from '../storage/endpoints.ts';
import { insertTarget, type InsertOutcome } from '../storage/insert.ts';

/** A ClickHouse that is not there within this time is reported. */
const CONNECT_TIMEOUT_MS = 15_000;

/** ClickHouse can't be asked now. What was not replayed is still there. */
export class ReplayError extends Error {
  override readonly name = 'ReplayError';
}

/**
 * Sends letters to ClickHouse, each under its own token, and removes those that are stored: however often and wherever it is
 * cut short, a letter is stored once. One that is refused again stays.
 * @param onOutcome called for each letter that was stored or refused
 * @throws ReplayError when ClickHouse is not available, or a letter is of another table than the environment's: that one knows no token of it
 */
export async function replay(
  config: Config,
  folder: DeadLetterFolder,
  letters: readonly DeadLetter[],
  onOutcome: (letter: DeadLetter, outcome: InsertOutcome) => void,
): Promise<void> {
  const target = insertTarget(config);
  const other = letters.find(({ query }) => !query.startsWith(`${target} `));
  if (other !== undefined) {
    throw new ReplayError(
      `${other.token} was sent by ${other.query.slice(0, other.query.lastIndexOf(' ('))}, and the environment says ${target} (CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE). Nothing was sent. To another table, send it with the script of an export.`,
    );
  }
  const endpoints = new Endpoints(config, {
    available: () => {},
    checked: () => {},
    unavailable: () => {},
    restored: () => {},
    unsearchable: () => {},
  });
  try {
    for (const letter of letters) {
      const endpoint = await inTime(endpoints, letter.server);
      const block = await folder.block(letter.token);
      // It may be stored there from now on, whatever comes of this replay.
      const isElsewhere = letter.server !== endpoint.deduplicationDomain;
      if (isElsewhere) await folder.write({ ...letter, server: endpoint.deduplicationDomain }, block);
      const outcome = await endpoint.insert([block], letter.token, true);
      if (isElsewhere && outcome.status === 'retry' && outcome.error.untouched) await folder.write(letter, block);
      if (outcome.status === 'retry')
        throw new ReplayError(`${letter.token} could not be sent to ${endpoint.name}: ${outcome.error.message}`);
      if (outcome.status === 'inserted') await folder.remove(letter.token);
      onOutcome(letter, outcome);
    }
  } finally {
    await endpoints.close();
  }
}

/** To whoever has seen the letter before: a replay that was cut short may have stored it there. */
async function inTime(endpoints: Endpoints, server: string): Promise<Endpoint> {
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
