export const STATES = ['pending', 'starting', 'running', 'succeeded', 'failed', 'cancelled', 'lost'] as const;
export type State = (typeof STATES)[number];

/** What is said of a run beside its curves. */
export interface Run {
  id: string;
  name: string;
  state: State;
  /** Why it is in this state, in words; may be empty. */
  reason: string;
  /** One line that sums it up; may be empty. */
  line: string;
}

const ACTIVE: readonly State[] = ['pending', 'starting', 'running'];

/** Whether a run in this state may still change, and so can be stopped. */
export function isActive(state: State): boolean {
  return ACTIVE.includes(state);
}

/** A run from JSON of any origin; what is missing or of another type becomes empty text. */
export function parseRun(json: unknown): Run {
  const fields = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const text = (key: string): string => (typeof fields[key] === 'string' ? fields[key] : '');
  const state = STATES.find(word => word === fields['state']) ?? 'pending';
  return { id: text('id'), name: text('name'), state, reason: text('reason'), line: text('line') };
}
