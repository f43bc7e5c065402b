const PATIENCE_MS = 2_000;

/** Asks for the history once, however many messages show that it is needed, and again if no answer comes. */
export class Resync {
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly send: () => void) {}

  ask(): void {
    if (this.timer !== undefined) {
      return;
    }
    this.send();
    this.timer = setTimeout(() => {
      this.timer = undefined;
    }, PATIENCE_MS);
  }

  done(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
