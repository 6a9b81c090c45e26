/**
 * A sample of the kill matrix: deploys and rollbacks during which something dies at a moment that was drawn. The whole of it is
 * `node scripts/kill-matrix.mjs`, which takes hours; see there for how to run a cell again.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { describeCell, KILLS, type MatrixResult, renderTable, runMatrix } from './kill-matrix/matrix.ts';

/** KILL_MATRIX_SEED draws the same cells again. */
const SEED = Number(process.env['KILL_MATRIX_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const CELLS = Number(process.env['KILL_MATRIX_CELLS'] ?? 6);
/** A cell takes a few seconds; the lease of a cut line and a boot more. */
const LIMIT_MINUTES = 8;

describe.each([
  { task: 'deploy', cells: CELLS },
  { task: 'rollback', cells: Math.ceil(CELLS / 3) },
] as const)('$task', ({ task, cells }) => {
  let matrix: MatrixResult;

  beforeAll(async () => {
    matrix = await runMatrix({ task, seed: SEED, sample: cells, limitSeconds: (LIMIT_MINUTES - 2) * 60 });
  }, LIMIT_MINUTES * 60_000);

  afterAll(() => {
    process.stdout.write(
      `kill matrix of a ${task}: seed ${SEED}, ${matrix.results.length} of ${matrix.cells} cells\n${renderTable(matrix.results)}\n`,
    );
  });

  it('finds the points in what a real one does', () => {
    for (const points of Object.values(matrix.points)) expect(points).toBeGreaterThan(50);
    const points = Object.values(matrix.points).reduce((sum, count) => sum + count, 0);
    // After the commit the runner is gone, so it cannot be killed, nor cancelled, nor cut off.
    expect(matrix.cells).toBeLessThan(points * Object.keys(KILLS).length);
    expect(matrix.cells).toBeGreaterThan(points * (Object.keys(KILLS).length - 3));
  });

  it('has one whole release serve whatever dies, and the next deploy go well', () => {
    expect(matrix.results).toHaveLength(cells);
    const failed = matrix.results.filter(({ problems }) => problems.length > 0);
    expect(
      failed.map(
        ({ cell, problems, log }) => `seed ${SEED}: ${describeCell(cell)}\n${problems.join('\n')}\n${log.slice(-6000)}`,
      ),
    ).toEqual([]);
  });
});
