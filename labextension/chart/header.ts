import { add } from './dom';
import { isActive, isFresh, type Run } from './run';

// A request to stop may be lost with its kernel, so the button may be tried again after this long.
const RETRY_MS = 15_000;

/** The line above the curve: name, state, why, and Stop where something can be stopped. */
export class Header {
  private readonly name: HTMLElement;
  private readonly isLive: boolean;
  private readonly state: HTMLElement;
  private readonly text: HTMLElement;
  private readonly button: HTMLButtonElement | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;

  constructor(parent: HTMLElement, onStop?: () => void) {
    this.isLive = onStop !== undefined;
    const element = add(parent, 'header', 'mlnb-head');
    this.name = add(element, 'strong', 'mlnb-name');
    this.state = add(element, 'span', 'mlnb-state');
    this.state.setAttribute('role', 'status');
    this.text = add(element, 'span', 'mlnb-text');
    if (onStop !== undefined) {
      this.button = add(element, 'button', 'mlnb-button mlnb-stop', 'Stop');
      this.button.type = 'button';
      this.button.addEventListener('click', () => {
        this.setStopping(true);
        onStop();
      });
    }
  }

  show(run: Run): void {
    this.name.textContent = run.name || run.id;
    this.name.title = run.id;
    // Assigning the same text would be announced again by screen readers.
    if (this.state.dataset['state'] !== run.state) {
      this.state.dataset['state'] = run.state;
      this.state.textContent = run.state;
    }
    // A saved view can't know what became of the run since; it must not look as if it did.
    const isLive = this.isLive || isFresh(run);
    const saved = !isLive && isActive(run.state) ? 'when this was saved' : '';
    this.state.classList.toggle('mlnb-live', isLive);
    this.text.textContent = [saved, run.reason, run.line].filter(part => part !== '').join(' · ');
    if (this.button !== undefined) {
      this.button.hidden = !isActive(run.state);
      this.button.setAttribute('aria-label', `Stop the run ${run.name || run.id}`);
    }
  }

  dispose(): void {
    clearTimeout(this.retry);
  }

  private setStopping(stopping: boolean): void {
    if (this.button === undefined) {
      return;
    }
    this.button.disabled = stopping;
    this.button.textContent = stopping ? 'Stopping…' : 'Stop';
    clearTimeout(this.retry);
    if (stopping) {
      this.retry = setTimeout(() => {
        this.setStopping(false);
      }, RETRY_MS);
    }
  }
}
