import { setTimeout as delay } from 'node:timers/promises';
import { attributes, type Attribute, type OtlpSpan, requestOf } from './otlp.ts';

/** What came of the requests so far. */
export class Answers {
  acknowledgedSpans = 0;
  /** How long each acknowledgement took, in ms. */
  readonly acknowledgedAfterMs: number[] = [];
  /** Answers other than 200, by status. */
  readonly refusals = new Map<number, number>();
}

/** As Hive Gateway's exporter: as soon as so many spans have gathered, or after so long; one request at a time. */
const EXPORT_SPANS = 512;
export const EXPORT_EVERY_MS = 1_000;

/** A gateway as a sender of spans. What is refused for now is sent again when the answer says so. */
export class Gateway {
  readonly #url: string;
  readonly #answers: Answers;
  readonly #resource: readonly Attribute[];
  #waiting: OtlpSpan[] = [];
  #exportedAtMs: number;
  #exporting: Promise<void> | undefined;
  #error: unknown;

  /** `startedAtMs` is when its clock for exports began, of `performance.now()`. */
  constructor(url: string, name: string, run: string, answers: Answers, startedAtMs: number) {
    this.#url = url;
    this.#exportedAtMs = startedAtMs;
    this.#answers = answers;
    this.#resource = attributes({
      'service.name': 'hive-gateway',
      'service.version': '2.15.1',
      'service.instance.id': name,
      'host.name': name,
      'os.type': 'linux',
      'demo.run': run,
    });
  }

  add(spans: readonly OtlpSpan[]): void {
    this.#waiting.push(...spans);
  }

  /** @throws what went wrong with the last export: fetch failed, or the spans were refused for good */
  exportIfDue(): void {
    if (this.#error !== undefined) throw this.#error;
    const due = this.#waiting.length >= EXPORT_SPANS || performance.now() - this.#exportedAtMs >= EXPORT_EVERY_MS;
    if (!due || this.#exporting !== undefined || this.#waiting.length === 0) return;
    this.#exporting = this.#export()
      .catch((error: unknown) => (this.#error = error))
      .then(() => (this.#exporting = undefined));
  }

  /** Sends what waits. @throws as above */
  async finish(): Promise<void> {
    await this.#exporting;
    if (this.#error !== undefined) throw this.#error;
    while (this.#waiting.length > 0) await this.#export();
  }

  async #export(): Promise<void> {
    const spans = this.#waiting.splice(0, EXPORT_SPANS);
    this.#exportedAtMs = performance.now();
    const body = requestOf(this.#resource, spans);
    for (;;) {
      const sentAtMs = performance.now();
      const answer = await fetch(this.#url, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-Hive-Target-Ref': 'demo/shop/production' },
        body,
      });
      const text = await answer.text();
      if (answer.status === 200) {
        this.#answers.acknowledgedAfterMs.push(performance.now() - sentAtMs);
        this.#answers.acknowledgedSpans += spans.length;
        return;
      }
      this.#answers.refusals.set(answer.status, (this.#answers.refusals.get(answer.status) ?? 0) + 1);
      const retryAfterS = answer.headers.get('retry-after');
      if (retryAfterS === null) throw new Error(`The collector answered ${answer.status}: ${text}`);
      await delay(Number(retryAfterS) * 1_000);
    }
  }
}
