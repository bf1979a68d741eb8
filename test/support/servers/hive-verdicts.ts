import { after, json, raw, startHive, type Hive } from '../../integration/auth-hive.ts';

export const CREDENTIALS = { authorization: 'Bearer good', 'x-hive-target-ref': 'the-guild/hive/production' };

const good = json(200, { targetId: 'target-1' });

/** Hive's answer to each token. */
const VERDICTS: Readonly<Record<string, Hive['answer']>> = {
  'Bearer good': good,
  'Bearer unknown': json(401, { message: 'Invalid token provided' }),
  'Bearer read-only': json(403, { message: 'No permission to report traces' }),
  'Bearer misplaced': json(404, { message: 'Target not found' }),
  'Bearer unlucky': raw(500, 'Internal Server Error'),
  'Bearer slow': after(200, good),
  // The connection stays open, without an answer.
  'Bearer patient': () => {},
};

/** Starts an auth endpoint with the answers above. Other tokens get none. */
export function startHiveWithVerdicts(): Promise<Hive> {
  return startHive((request, response) => VERDICTS[request.headers.authorization ?? '']?.(request, response));
}
