import { parseDisplays, type Display } from './display';

export const STATES = ['pending', 'starting', 'running', 'succeeded', 'failed', 'cancelled', 'lost'] as const;
export type State = (typeof STATES)[number];

/** The step at which an attempt begins that resumed the one before. */
export interface Attempt {
  number: number;
  step: number;
}

/** The summary of a run: all that is shown of it besides its curves. */
export interface Run {
  id: string;
  name: string;
  state: State;
  /** Why it is in this state; may be empty. */
  reason: string;
  /** One line that sums it up; may be empty. */
  line: string;
  /** When it is expected to end, in seconds since the epoch; undefined if unknown. */
  ends: number | undefined;
  attempts: Attempt[];
  /** Means over the whole run by metric, once it has ended: from all that was measured. */
  means: ReadonlyMap<string, number>;
  /** Things the person should know, a line each. */
  notes: string[];
  /** The traceback of the rank that failed first; may be empty. */
  error: string;
  /** The end of what rank 0 printed; may be empty. */
  output: string;
  /** What the run displayed: pictures, tables and others. */
  displays: Display[];
  /** The run as `%%train --resume` names it, if it has ended early and has a checkpoint; else empty. */
  resume: string;
  /** When this summary was made, in seconds since the epoch; 0 if unknown. */
  updated: number;
}

/** Seconds for which a summary counts as the run's present state. */
const FRESH_SECONDS = 15;

/** Whether a summary was made just now. */
export function isFresh(run: Run, now = Date.now() / 1000): boolean {
  return now - run.updated < FRESH_SECONDS;
}

const ACTIVE: readonly State[] = ['pending', 'starting', 'running'];

/** Whether a run in this state may still change, and so can be stopped. */
export function isActive(state: State): boolean {
  return ACTIVE.includes(state);
}

/** Whether a run has succeeded, but something about it is wrong, as a loss that is NaN. */
export function isWarned({ state, reason }: Run): boolean {
  return state === 'succeeded' && reason !== '';
}

/** A run from JSON of any origin; what is missing or of another type becomes empty text. */
export function parseRun(json: unknown): Run {
  const fields = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const text = (key: string): string => (typeof fields[key] === 'string' ? fields[key] : '');
  const state = STATES.find(candidate => candidate === fields['state']) ?? 'pending';
  const texts = (key: string): string[] => {
    const values = fields[key];
    return Array.isArray(values) ? values.filter(value => typeof value === 'string') : [];
  };
  return {
    id: text('id'),
    name: text('name'),
    state,
    reason: text('reason'),
    line: text('line'),
    ends: typeof fields['ends'] === 'number' ? fields['ends'] : undefined,
    attempts: (Array.isArray(fields['attempts']) ? fields['attempts'] : []).filter(isAttempt),
    means: numbersOf(fields['means']),
    notes: texts('notes'),
    error: text('error'),
    output: text('output'),
    displays: parseDisplays(fields['displays'], fields['figures']),
    resume: text('resume'),
    updated: typeof fields['updated'] === 'number' ? fields['updated'] : 0
  };
}

function numbersOf(json: unknown): Map<string, number> {
  const entries: [string, unknown][] = Object.entries(typeof json === 'object' && json !== null ? json : {});
  return new Map(entries.filter((entry): entry is [string, number] => typeof entry[1] === 'number'));
}

function isAttempt(json: unknown): json is Attempt {
  const { number, step } = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  return typeof number === 'number' && typeof step === 'number';
}
