/** Drawing may take this share of the time. */
const SHARE = 0.05;
const LONGEST_PAUSE_MS = 2_000;

/** When to draw next: so that drawing leaves nearly all of the time to the rest of the page, however slow it is. */
export class Pace {
  private next = -Infinity;

  /** Milliseconds to wait before the next drawing. */
  wait(now: number): number {
    return Math.max(0, this.next - now);
  }

  /** A drawing began at `began`; its end was painted at `ended`. */
  drew(began: number, ended: number): void {
    this.next = ended + Math.min(LONGEST_PAUSE_MS, (ended - began) * (1 / SHARE - 1));
  }
}
