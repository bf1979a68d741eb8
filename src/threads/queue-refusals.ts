import { diskBufferFailed, diskBufferFull, storageUnavailable } from '../otlp/refusal.ts';

/** The refusals of a queue. Threads share a refusal as its number, from 1; 0 means that requests are accepted. */
const REFUSALS = [storageUnavailable, diskBufferFull, diskBufferFailed] as const;
/** The message of each refusal, by which `numberOf` recognizes it. */
const MESSAGES = REFUSALS.map((make) => make().message);

/** The number of a refusal in `REFUSALS`, from 1; 0 for undefined. */
export function numberOf(refusal: Error | undefined): number {
  return refusal === undefined ? 0 : Math.max(0, MESSAGES.indexOf(refusal.message)) + 1;
}

/** The refusal with this number; undefined for 0. */
export function refusalOf(number: number): Error | undefined {
  return number === 0 ? undefined : REFUSALS[number - 1]();
}
