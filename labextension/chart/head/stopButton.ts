import { add } from '../dom';

/** Stops the run. A promise is fulfilled when it has ended, and rejected with the reason if it could not be stopped. */
export type Stop = () => Promise<void> | undefined;

/** Time for the second click, by which the first one is confirmed. */
const CONFIRM_MS = 4_000;
/** A request without an answer may be lost with its kernel, so the button can be pressed again after this time. */
const RETRY_MS = 15_000;

type Phase = 'idle' | 'asking' | 'stopping';
const TEXTS: Record<Phase, string> = { idle: 'Stop', asking: 'Stop? Click again', stopping: 'Stopping…' };

/** The button that stops a run. It asks once: the run is stopped by a second click. */
export class StopButton {
  private readonly button: HTMLButtonElement;
  private stop: Stop | undefined;
  private phase: Phase = 'idle';
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    parent: HTMLElement,
    private readonly failed: (reason: string) => void
  ) {
    this.button = add(parent, 'button', 'mlnb-button mlnb-stop', TEXTS.idle);
    this.button.type = 'button';
    this.button.hidden = true;
    this.button.addEventListener('click', () => {
      this.onClick();
    });
    this.button.addEventListener('blur', () => {
      if (this.phase === 'asking') {
        this.enter('idle');
      }
    });
    this.button.addEventListener('keydown', event => {
      if (event.key === 'Escape' && this.phase === 'asking') {
        event.stopPropagation();
        this.enter('idle');
      }
    });
  }

  /** How to stop the run `name`; undefined if it can't be stopped, or not from here. */
  show(stop: Stop | undefined, name: string): void {
    this.stop = stop;
    this.button.hidden = stop === undefined;
    this.button.setAttribute('aria-label', `Stop the run ${name}`);
  }

  /** The run has ended. */
  reset(): void {
    this.enter('idle');
  }

  dispose(): void {
    clearTimeout(this.timer);
  }

  private onClick(): void {
    if (this.phase === 'idle') {
      this.enter('asking', CONFIRM_MS);
      return;
    }
    this.enter('stopping');
    const request = this.stop?.();
    if (request === undefined) {
      this.enter('stopping', RETRY_MS);
      return;
    }
    request.catch((error: unknown) => {
      this.enter('idle');
      this.failed(error instanceof Error ? error.message : String(error));
    });
  }

  /** Enters a phase, and leaves it after a time if one is given. */
  private enter(phase: Phase, forMs?: number): void {
    clearTimeout(this.timer);
    this.phase = phase;
    this.button.disabled = phase === 'stopping';
    this.button.textContent = TEXTS[phase];
    this.button.classList.toggle('mlnb-asking', phase === 'asking');
    if (forMs !== undefined) {
      this.timer = setTimeout(() => {
        this.enter('idle');
      }, forMs);
    }
  }
}
