/** Targets that are counted for each one that is shown: a target that sends more than the others is soon among them. */
const KEPT_PER_SHOWN = 20;

/** Counts the acknowledged spans of the targets that have sent the most. Its memory is bounded for any number of targets. */
export class TopTargets {
  private readonly spans = new Map<string, number>();
  private readonly shown: number;

  /** @param shown the number of targets that `list` returns; with 0 nothing is counted */
  constructor(shown: number) {
    this.shown = shown;
  }

  get isOn(): boolean {
    return this.shown > 0;
  }

  /** Counts spans of a target. Replaced in ingest threads: the main thread counts them. */
  count: (targetId: string, spans: number) => void = (targetId, spans) => {
    if (this.shown === 0) return;
    this.spans.set(targetId, (this.spans.get(targetId) ?? 0) + spans);
    if (this.spans.size > 2 * KEPT_PER_SHOWN * this.shown) this.forgetSmall();
  };

  /** The targets with the most spans, the largest first. */
  list(): (readonly [targetId: string, spans: number])[] {
    return this.sorted().slice(0, this.shown);
  }

  /** Removes the smaller half: so rarely that its cost per call of `count` is negligible. */
  private forgetSmall(): void {
    for (const [targetId] of this.sorted().slice(KEPT_PER_SHOWN * this.shown)) this.spans.delete(targetId);
  }

  private sorted(): [string, number][] {
    return [...this.spans].sort(([, a], [, b]) => b - a);
  }
}
