/** Values that no axis can show; they are marked at its edge. */
export type NonFiniteKind = 'nan' | 'inf' | '-inf';

export const NON_FINITE: readonly NonFiniteKind[] = ['nan', 'inf', '-inf'];

/** The kind of a value that is not finite, or undefined for one that is. */
export function nonFiniteKind(value: number): NonFiniteKind | undefined {
  if (Number.isFinite(value)) {
    return undefined;
  }
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}
