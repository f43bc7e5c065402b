import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';
import { MIME_TYPE, parseBundle, type Bundle } from '../chart/bundle';
import { isActive } from '../chart/run';
import { RunView } from '../chart/view';
import { RunStream } from './runStream';
import { isServed, known, stop } from './server';

const ASK_AGAIN_MS = 10_000;

/**
 * A run in an output area. What the output holds is drawn at once; where the server knows more, its stream takes
 * over, with or without a kernel. Where it doesn't, newer versions of the output update the same view.
 */
export class RunRenderer extends Widget implements IRenderMime.IRenderer {
  private view: RunView | undefined;
  private live: RunStream | undefined;
  /** Whether what is drawn came from the server; then it is all there is. */
  private streamed = false;
  /** The state with which the stream ended. */
  private ended: string | undefined;
  private asked = -Infinity;
  private bundle: Bundle | undefined;

  constructor() {
    super();
    this.addClass('mlnb-output');
  }

  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    try {
      const bundle = parseBundle(model.data[MIME_TYPE]);
      if (this.bundle !== undefined && this.bundle.run.id !== bundle.run.id) {
        this.clear();
      }
      this.bundle = { ...bundle, metrics: bundle.metrics ?? this.bundle?.metrics };
      if (this.ended !== undefined && this.ended !== bundle.run.state) {
        this.endStream(); // the run was resumed
      }
      if (!this.streamed) {
        this.draw(bundle);
        void this.follow(bundle);
      }
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

  private draw({ run, metrics }: Bundle): void {
    if (this.view === undefined) {
      this.node.replaceChildren();
      this.view = new RunView(this.node);
    }
    this.view.showRun(run);
    if (metrics !== undefined) {
      this.view.keepOnly(new Set(metrics.keys()));
      for (const [metric, columns] of metrics) {
        this.view.putPoints({ metric, offset: 0, ...columns });
      }
    }
  }

  /** Let the server's stream take over, if there is one that has more than this. */
  private async follow({ run }: Bundle): Promise<void> {
    if (!isServed || this.live !== undefined || performance.now() - this.asked < ASK_AGAIN_MS) {
      return;
    }
    this.asked = performance.now();
    const { view } = this;
    const found = await known(run.id).catch(() => undefined);
    const hasMore = found !== undefined && (isActive(run.state) || found.state !== run.state);
    if (!hasMore || view === undefined || view !== this.view || this.isLive()) {
      return;
    }
    let state = run.state;
    this.live = new RunStream(run.id, {
      head: (now, names) => {
        this.streamed = true;
        state = now.state;
        view.setLive(true);
        view.setStop(() => stop(run.id));
        view.showRun(now);
        view.keepOnly(names);
      },
      points: points => view.putPoints(points),
      end: () => {
        this.ended = state;
        view.setStop(undefined);
      },
      lost: () => {
        view.setLive(false, 'connection lost');
        view.setStop(undefined);
      },
      gone: () => {
        this.live = undefined;
        this.streamed = false;
        view.setLive(false);
        if (this.bundle !== undefined) {
          this.draw(this.bundle);
        }
      }
    });
  }

  /** Asked again after waiting, since another call may have connected meanwhile. */
  private isLive(): boolean {
    return this.live !== undefined;
  }

  private endStream(): void {
    this.live?.dispose();
    this.live = undefined;
    this.streamed = false;
    this.ended = undefined;
    this.asked = -Infinity;
  }

  private clear(): void {
    this.endStream();
    this.bundle = undefined;
    this.view?.dispose();
    this.view = undefined;
    this.node.replaceChildren();
  }
}
