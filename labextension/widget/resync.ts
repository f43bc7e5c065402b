const TIMEOUT_MS = 2_000;

/** Requests the history once, however many messages show that it is needed, and again if no answer comes in time. */
export class Resync {
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly send: () => void) {}

  request(): void {
    if (this.timer !== undefined) {
      return;
    }
    this.send();
    this.timer = setTimeout(() => {
      this.timer = undefined;
    }, TIMEOUT_MS);
  }

  done(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
