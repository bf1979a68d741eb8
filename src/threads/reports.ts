import type { NewRefusal, RefusalLog } from '../ingest/refusal-log.ts';
import type { TopTargets } from '../ingest/top-targets.ts';
import type { MainThread } from './main-thread.ts';

/** How long refusals are collected: a flood of refusals must not become a flood of messages. */
const GATHER_MS = 100;
const MAX_MESSAGES = 20;

/** Sends the refusals of this thread to the main thread, those of GATHER_MS in one message. */
export function forwardRefusals(log: RefusalLog, main: MainThread): void {
  const byMessage = new Map<string, NewRefusal>();
  log.remember = (refusal) => {
    if (byMessage.size === 0) setTimeout(send, GATHER_MS).unref();
    byMessage.set(refusal.message, { ...refusal, requests: (byMessage.get(refusal.message)?.requests ?? 0) + refusal.requests });
    // Some messages quote values of senders, so their number is not limited otherwise.
    if (byMessage.size > MAX_MESSAGES) byMessage.delete(byMessage.keys().next().value!);
  };
  function send(): void {
    main.tell('refused', [...byMessage.values()]);
    byMessage.clear();
  }
}

/** Sends the acknowledged spans per target to the main thread, once per tick. Does nothing if METRICS_TOP_TARGETS is 0. */
export function forwardTargets(targets: TopTargets, main: MainThread): void {
  const spans = new Map<string, number>();
  if (!targets.isOn) return;
  targets.count = (targetId, more) => {
    if (spans.size === 0) setImmediate(send);
    spans.set(targetId, (spans.get(targetId) ?? 0) + more);
  };
  function send(): void {
    main.tell('acknowledged', new Map(spans));
    spans.clear();
  }
}
