/**
 * One configuration, four levels: *.test.ts (unit, contract), *.itg.test.ts (adapters), *.timing.test.ts (adapters that are judged by the clock, one
 * at a time), test/e2e (real servers).
 */
const transform = { '^.+\\.ts$': '<rootDir>/jest-transform.mjs' };
const common = {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform,
  modulePathIgnorePatterns: ['/dist/'],
};

export default {
  // Of a test that says nothing else. Hundreds of shell scripts run in some, on a machine that may be busy with a server's set-up.
  testTimeout: 60_000,
  testSequencer: '<rootDir>/jest-sequencer.mjs',
  projects: [
    {
      ...common,
      displayName: 'unit',
      testMatch: ['**/*.test.ts'],
      testPathIgnorePatterns: ['/node_modules/', '/test/e2e/', '/infra/example/', '\\.(itg|timing)\\.test\\.ts$'],
    },
    {
      ...common,
      displayName: 'adapter',
      testMatch: ['**/*.itg.test.ts'],
      testPathIgnorePatterns: ['/node_modules/', '/infra/example/'],
    },
    {
      ...common,
      displayName: 'timing',
      testMatch: ['**/*.timing.test.ts'],
      testPathIgnorePatterns: ['/node_modules/', '/infra/example/'],
    },
    {
      ...common,
      displayName: 'e2e',
      testMatch: ['<rootDir>/test/e2e/**/*.test.ts'],
      testPathIgnorePatterns: ['/node_modules/', '\\.itg\\.test\\.ts$'],
    },
  ],
};
