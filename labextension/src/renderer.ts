import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';
import { MIME_TYPE, parseBundle } from '../chart/bundle';
import { RunView } from '../chart/view';

/** A saved run in an output area. No kernel is needed; a newer version of the output updates the same view. */
export class RunRenderer extends Widget implements IRenderMime.IRenderer {
  private view: RunView | undefined;

  constructor() {
    super();
    this.addClass('mlnb-output');
  }

  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    try {
      this.draw(model.data[MIME_TYPE]);
    } catch (error) {
      this.clear();
      this.node.textContent = error instanceof Error ? error.message : String(error);
    }
    return Promise.resolve();
  }

  override dispose(): void {
    this.clear();
    super.dispose();
  }

  private draw(json: unknown): void {
    const { run, metrics } = parseBundle(json);
    if (this.view === undefined) {
      this.node.replaceChildren();
      this.view = new RunView(this.node);
    }
    this.view.showRun(run);
    this.view.keepOnly(new Set(metrics.keys()));
    for (const [name, { steps, values }] of metrics) {
      this.view.putPoints(name, 0, steps, values);
    }
  }

  private clear(): void {
    this.view?.dispose();
    this.view = undefined;
    this.node.replaceChildren();
  }
}
