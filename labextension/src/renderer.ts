import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';
import { MIME_TYPE, parseBundle, type Bundle } from '../chart/bundle';
import type { Rich } from '../chart/display';
import { isActive } from '../chart/run';
import { RunView } from '../chart/view';
import { keepEnd } from './ending';
import { resumeInCell } from './notebooks';
import { RunStream } from './runStream';
import { fetchRun, isServed, stopRun } from './server';

/** The least time between two queries for the run of an output. */
const QUERY_INTERVAL_MS = 10_000;

/**
 * A run in an output area. The content of the output is drawn at once. If the server has more, its stream takes over,
 * with or without a kernel; else newer versions of the output update the same view.
 */
export class RunRenderer extends Widget implements IRenderMime.IRenderer {
  private view: RunView | undefined;
  private stream: RunStream | undefined;
  /** Whether what is drawn came from the server: then the output has nothing to add. */
  private isStreamed = false;
  /** The run's state when the stream ended; undefined before that. */
  private endState: string | undefined;
  /** When the server was last queried for the run, by performance.now(). */
  private lastQuery = -Infinity;
  private bundle: Bundle | undefined;

  private readonly rich: Rich;

  constructor({ sanitizer, markdownParser }: IRenderMime.IRendererOptions) {
    super();
    this.rich = {
      html: source => sanitizer.sanitize(source),
      markdown: markdownParser
        ? async source => sanitizer.sanitize(await markdownParser.render(source))
        : undefined
    };
    this.addClass('mlnb-output');
  }

  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    try {
      const bundle = parseBundle(model.data[MIME_TYPE]);
      if (this.bundle !== undefined && this.bundle.run.id !== bundle.run.id) {
        this.clear();
      }
      this.bundle = { ...bundle, metrics: bundle.metrics ?? this.bundle?.metrics };
      if (this.endState !== undefined && this.endState !== bundle.run.state) {
        this.endStream(); // the run was resumed
      }
      if (!this.isStreamed) {
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

  protected override onAfterAttach(): void {
    this.view?.attached();
  }

  private draw({ run, metrics }: Bundle): void {
    if (this.view === undefined) {
      this.node.replaceChildren();
      this.view = new RunView(this.node, this.rich, resumeInCell);
    }
    this.view.showRun(run);
    if (metrics !== undefined) {
      this.view.keepOnly(new Set(metrics.keys()));
      for (const [metric, columns] of metrics) {
        this.view.putPoints({ metric, offset: 0, ...columns });
      }
    }
  }

  /** Lets the server's stream take over, if the server has more of the run than the output. */
  private async follow({ run }: Bundle): Promise<void> {
    if (!isServed || this.stream !== undefined || performance.now() - this.lastQuery < QUERY_INTERVAL_MS) {
      return;
    }
    this.lastQuery = performance.now();
    const { view } = this;
    const listed = await fetchRun(run.id).catch(() => undefined);
    const hasMore = listed !== undefined && (isActive(run.state) || listed.state !== run.state);
    if (!hasMore || view === undefined || view !== this.view || this.hasStream()) {
      return;
    }
    let state = run.state;
    this.stream = new RunStream(run.id, {
      summary: (summary, names) => {
        this.isStreamed = true;
        state = summary.state;
        view.setLive(true);
        view.setStop(() => stopRun(run.id));
        view.showRun(summary);
        view.keepOnly(names);
      },
      points: points => view.putPoints(points),
      end: () => {
        this.endState = state;
        view.setStop(undefined);
        keepEnd(run.id, state).catch(() => undefined); // the server is gone; what the output contains stays
      },
      lost: () => {
        view.setLive(false, 'connection lost');
        view.setStop(undefined);
      },
      gone: () => {
        this.stream = undefined;
        this.isStreamed = false;
        view.setLive(false);
        if (this.bundle !== undefined) {
          this.draw(this.bundle);
        }
      }
    });
  }

  /** A method, since another call may have connected during an await, which TypeScript's narrowing does not consider. */
  private hasStream(): boolean {
    return this.stream !== undefined;
  }

  private endStream(): void {
    this.stream?.dispose();
    this.stream = undefined;
    this.isStreamed = false;
    this.endState = undefined;
    this.lastQuery = -Infinity;
  }

  private clear(): void {
    this.endStream();
    this.bundle = undefined;
    this.view?.dispose();
    this.view = undefined;
    this.node.replaceChildren();
  }
}
