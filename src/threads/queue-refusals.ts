import { diskBufferFailed, diskBufferFull, storageUnavailable } from '../otlp/refusal.ts';

/** Why a queue takes nothing, by the number that threads share; 0 if it does. */
const REFUSALS = [storageUnavailable, diskBufferFull, diskBufferFailed] as const;
/** Each has its own. */
const MESSAGES = REFUSALS.map((make) => make().message);

export function numberOf(refusal: Error | undefined): number {
  return refusal === undefined ? 0 : Math.max(0, MESSAGES.indexOf(refusal.message)) + 1;
}

export function refusalOf(number: number): Error | undefined {
  return number === 0 ? undefined : REFUSALS[number - 1]();
}
