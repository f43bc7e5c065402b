import { MIME_TYPE } from '../chart/bundle';

// The parts of JupyterLab's application that are used here. Its packages are not imported for that: they would be most
// of what is installed to build this extension.

interface Output {
  output_type: string;
  data?: Record<string, unknown>;
}

interface Outputs {
  readonly length: number;
  get(index: number): { toJSON(): Output };
  set(index: number, output: Output): void;
}

interface CellModel {
  /** Only code cells have them. */
  readonly outputs?: Outputs;
  readonly sharedModel: { getSource(): string; setSource(source: string): void };
}

interface NotebookPanel {
  readonly content: { readonly widgets: readonly { readonly node: HTMLElement; readonly model: CellModel }[] };
  readonly context: { readonly model: { readonly readOnly: boolean; readonly cells: Iterable<CellModel> } };
}

export interface Application {
  readonly shell: { widgets(area: string): Iterable<unknown> };
}

let application: Application | undefined;

/** Gives this module the application whose notebooks it may change. */
export function useApplication(app: Application | undefined): void {
  application = app;
}

function isNotebook(widget: unknown): widget is NotebookPanel {
  const { content, context } = widget as { content?: { widgets?: unknown }; context?: { model?: { cells?: unknown } } };
  const cells = context?.model?.cells;
  return Array.isArray(content?.widgets) && typeof cells === 'object' && cells !== null && Symbol.iterator in cells;
}

function* writableNotebooks(): Iterable<NotebookPanel> {
  for (const widget of application?.shell.widgets('main') ?? []) {
    if (typeof widget === 'object' && widget !== null && isNotebook(widget) && !widget.context.model.readOnly) {
      yield widget;
    }
  }
}

/** The outputs of open notebooks that show a run in another state than `state`. */
function* staleOutputs(runId: string, state: string): Iterable<{ outputs: Outputs; index: number; output: Output }> {
  for (const notebook of writableNotebooks()) {
    for (const { outputs } of notebook.context.model.cells) {
      for (let index = 0; index < (outputs?.length ?? 0); index++) {
        const output = outputs?.get(index).toJSON();
        const shown = output?.data?.[MIME_TYPE] as { id?: unknown; state?: unknown } | undefined;
        if (outputs !== undefined && output !== undefined && shown?.id === runId && shown.state !== state) {
          yield { outputs, index, output };
        }
      }
    }
  }
}

/** Whether an open notebook would be saved with a run in another state than `state`. */
export function isStale(runId: string, state: string): boolean {
  return [...staleOutputs(runId, state)].length > 0;
}

/** Writes what a run looks like at its end into all outputs of open notebooks that show it otherwise. */
export function replaceOutputs(runId: string, data: Record<string, unknown>): void {
  const { state } = data[MIME_TYPE] as { state: string };
  for (const { outputs, index, output } of [...staleOutputs(runId, state)]) {
    outputs.set(index, { ...output, data });
  }
}

const TRAIN = /^(\s*%%train\b)(.*)$/m;
const REPLACED = /\s--(?:resume|name)(?:=|\s+)(?:"[^"]*"|'[^']*'|\S+)/g;

/** The cell's text with a first line that continues a run: its other options stay. */
export function withResume(source: string, run: string): string {
  return source.replace(TRAIN, (_, magic: string, options: string) => {
    const others = options.replace(REPLACED, '').trimEnd();
    return `${magic}${others} --resume ${run}`;
  });
}

/** How to have the cell around an element continue a run; undefined if it isn't a cell that can be changed. */
export function resumeInCell(element: HTMLElement): ((run: string) => void) | undefined {
  for (const notebook of writableNotebooks()) {
    const cell = notebook.content.widgets.find(({ node }) => node.contains(element));
    if (cell !== undefined && TRAIN.test(cell.model.sharedModel.getSource())) {
      const { sharedModel } = cell.model;
      return run => {
        sharedModel.setSource(withResume(sharedModel.getSource(), run));
      };
    }
  }
  return undefined;
}
