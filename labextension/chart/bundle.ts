import { parseRun, type Run } from './run';

/** The MIME type under which a notebook keeps a run with its decimated history. */
export const MIME_TYPE = 'application/vnd.mlnb.run+json';
const VERSION = 1;

export interface Bundle {
  run: Run;
  /** Undefined if only the summary was sent: the curves have not changed. */
  metrics: Map<string, { steps: Float64Array; values: Float64Array; total: number }> | undefined;
}

/** The run in a saved output. Throws an error that says what is wrong when it cannot be read. */
export function parseBundle(json: unknown): Bundle {
  if (!isRecord(json)) {
    throw new Error('This output is not a saved mlnb run.');
  }
  if (json['version'] !== VERSION) {
    throw new Error(`This run was saved in format ${String(json['version'])}; this mlnb reads format ${VERSION}.`);
  }
  if (!isRecord(json['metrics'])) {
    return { run: parseRun(json), metrics: undefined };
  }
  const metrics: NonNullable<Bundle['metrics']> = new Map();
  for (const [name, columns] of Object.entries(json['metrics'])) {
    const steps = toColumn(isRecord(columns) ? columns['step'] : undefined);
    const values = toColumn(isRecord(columns) ? columns['value'] : undefined);
    if (steps?.length === undefined || steps.length !== values?.length) {
      throw new Error(`The saved metric "${name}" does not have one value for each step.`);
    }
    const total = isRecord(columns) && typeof columns['total'] === 'number' ? columns['total'] : 0;
    metrics.set(name, { steps, values, total });
  }
  return { run: parseRun(json), metrics };
}

/** JSON has no NaN and no infinities, so they are saved by name; any other text or null reads as NaN. */
function toNumber(json: unknown): number {
  switch (json) {
    case 'Infinity':
      return Infinity;
    case '-Infinity':
      return -Infinity;
    default:
      return typeof json === 'number' ? json : NaN;
  }
}

function toColumn(json: unknown): Float64Array | undefined {
  return Array.isArray(json) ? Float64Array.from(json, toNumber) : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
