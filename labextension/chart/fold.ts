import { add } from './dom';

/**
 * Text of which only the end is shown until a button is pressed. It has no scrollbar, which would keep the wheel from
 * the notebook.
 */
export class FoldedText {
  private readonly element: HTMLElement;
  private readonly text: HTMLElement;
  private readonly button: HTMLButtonElement;
  private readonly resizes: ResizeObserver;
  private isOpen = false;
  private shown = '';

  constructor(
    parent: HTMLElement,
    className: string,
    label: string,
    private readonly nodes: (text: string) => Node[]
  ) {
    this.element = add(parent, 'div', 'mlnb-folded');
    this.element.hidden = true;
    this.button = add(this.element, 'button', 'mlnb-button mlnb-unfold');
    this.button.type = 'button';
    this.button.addEventListener('click', () => {
      this.isOpen = !this.isOpen;
      this.update();
    });
    this.text = add(add(this.element, 'div', 'mlnb-fold'), 'pre', className);
    this.text.setAttribute('aria-label', label);
    this.resizes = new ResizeObserver(() => {
      this.update();
    });
    this.resizes.observe(this.text);
  }

  show(text: string): void {
    if (this.shown === text) {
      return;
    }
    this.shown = text;
    this.element.hidden = text === '';
    this.text.replaceChildren(...this.nodes(text));
  }

  dispose(): void {
    this.resizes.disconnect();
  }

  private update(): void {
    const fold = this.text.parentElement;
    this.element.classList.toggle('mlnb-open', this.isOpen);
    const hides = this.text.offsetHeight > (fold?.clientHeight ?? 0) + 1;
    const lines = this.shown.split('\n').length;
    this.element.classList.toggle('mlnb-hides', hides);
    this.button.hidden = !hides && !this.isOpen;
    this.button.setAttribute('aria-expanded', String(this.isOpen));
    this.button.textContent = this.isOpen ? 'Show less' : `Show all${lines > 1 ? ` ${lines} lines` : ''}`;
  }
}
