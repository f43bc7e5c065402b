/** Which curves of a chart are shown. At least one always is. */
export class Visibility {
  private hidden = new Set<string>();

  constructor(private names: readonly string[] = []) {}

  /** Other curves: those that were hidden by their name stay hidden. */
  show(names: readonly string[]): void {
    this.names = names;
    this.keepOne();
  }

  has(name: string): boolean {
    return !this.hidden.has(name);
  }

  toggle(name: string): void {
    if (!this.hidden.delete(name)) {
      this.hidden.add(name);
    }
    this.keepOne();
  }

  /** Shows this curve alone, or all if it already is. */
  isolate(name: string): void {
    const isAlone = this.names.every(other => this.has(other) === (other === name));
    for (const other of this.names) {
      this.hidden.delete(other);
      if (!isAlone && other !== name) {
        this.hidden.add(other);
      }
    }
  }

  /** What is hidden now, to be given to `restore`. */
  snapshot(): ReadonlySet<string> {
    return new Set(this.hidden);
  }

  restore(hidden: ReadonlySet<string>): void {
    this.hidden = new Set(hidden);
    this.keepOne();
  }

  private keepOne(): void {
    if (!this.names.some(name => this.has(name))) {
      for (const name of this.names) {
        this.hidden.delete(name);
      }
    }
  }
}
