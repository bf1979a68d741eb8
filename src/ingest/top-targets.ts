/** Targets that are kept count of, for each that is shown: who sends more than the others is among them for certain before long. */
const KEPT_PER_SHOWN = 20;

/** Spans acknowledged, for the targets that have sent the most. Bounded, however many targets there are. */
export class TopTargets {
  private readonly spans = new Map<string, number>();
  private readonly shown: number;

  /** @param shown how many `list` returns; 0 counts nothing */
  constructor(shown: number) {
    this.shown = shown;
  }

  get isOn(): boolean {
    return this.shown > 0;
  }

  /** Counts spans of a target. Replaced where another thread does that. */
  count: (targetId: string, spans: number) => void = (targetId, spans) => {
    if (this.shown === 0) return;
    this.spans.set(targetId, (this.spans.get(targetId) ?? 0) + spans);
    if (this.spans.size > 2 * KEPT_PER_SHOWN * this.shown) this.forgetSmall();
  };

  /** The largest, with their spans. */
  list(): (readonly [targetId: string, spans: number])[] {
    return this.sorted().slice(0, this.shown);
  }

  /** Half of them: so often that it costs next to nothing for each. */
  private forgetSmall(): void {
    for (const [targetId] of this.sorted().slice(KEPT_PER_SHOWN * this.shown)) this.spans.delete(targetId);
  }

  private sorted(): [string, number][] {
    return [...this.spans].sort(([, a], [, b]) => b - a);
  }
}
