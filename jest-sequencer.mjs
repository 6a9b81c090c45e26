/** As Jest orders test files (large ones first), but for what is long and small: begun last, it would keep everybody waiting alone. */
import TestSequencer from '@jest/test-sequencer';

const FIRST = ['test/e2e/kill-matrix.test.ts'];

export default class extends TestSequencer {
  sort(tests) {
    const isFirst = ({ path }) => FIRST.some((name) => path.endsWith(name));
    const ordered = super.sort(tests);
    return [...ordered.filter(isFirst), ...ordered.filter((test) => !isFirst(test))];
  }
}
