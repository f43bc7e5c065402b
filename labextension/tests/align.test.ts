import { describe, expect, it } from 'vitest';
import { align } from '../chart/plot/align';
import { Pace } from '../chart/plot/pace';

describe('align', () => {
  it('lets a line go on past steps of another curve, and interrupts it where it is interrupted', () => {
    const { x, ys } = align([
      { x: [0, 1, 2, 3], y: [9, null, 7, 6] },
      { x: [1, 3.5], y: [5, 4] }
    ]);
    expect(x).toEqual([0, 1, 2, 3, 3.5]);
    expect(ys).toEqual([
      [9, null, 7, 6, undefined],
      [undefined, 5, undefined, undefined, 4]
    ]);
  });

  it('keeps values that share a step', () => {
    expect(align([{ x: [1, 1, 2], y: [1, 5, 2] }, { x: [1], y: [3] }])).toEqual({
      x: [1, 1, 2],
      ys: [
        [1, 5, 2],
        [3, undefined, undefined]
      ]
    });
    expect(align([{ x: [1, 1], y: [1, 5] }])).toEqual({ x: [1, 1], ys: [[1, 5]] });
    expect(align([])).toEqual({ x: [], ys: [] });
  });
});

describe('Pace', () => {
  it('leaves 19 of 20 parts of the time to others, and waits 2 s at most', () => {
    const pace = new Pace();
    expect(pace.wait(0)).toBe(0);
    pace.drew(100, 110);
    expect(pace.wait(110)).toBeCloseTo(190);
    expect(pace.wait(400)).toBe(0);
    pace.drew(1000, 2000);
    expect(pace.wait(2000)).toBe(2000);
  });
});
