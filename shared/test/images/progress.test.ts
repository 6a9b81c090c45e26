import fc from 'fast-check';
import { formatProgress, formatPulled, PullProgress } from '../../src/images/progress';
import { formatBytes, formatBytesOf } from '../../src/images/size';

const A = 'a'.repeat(12);
const B = 'b'.repeat(12);
const C = 'c'.repeat(12);
const DIGEST = `sha256:${'0'.repeat(64)}`;

const api = (id: string, status: string, current?: number, total?: number) => ({
  id,
  status,
  progressDetail: { ...(current === undefined ? {} : { current }), ...(total === undefined ? {} : { total }) },
});

test('the Engine API: sizes come with the download', () => {
  const progress = new PullProgress();
  const state = () => progress.state;
  progress.addMessage(api(DIGEST, 'Pulling from acme/web'));
  expect(state()).toEqual({ layersDone: 0, layers: 0, bytesDone: 0, bytes: 0 });
  progress.addMessage(api(A, 'Pulling fs layer'));
  progress.addMessage(api(B, 'Already exists'));
  progress.addMessage(api(C, 'Waiting'));
  expect(state()).toEqual({ layersDone: 1, layers: 3, bytesDone: 0, bytes: 0 });
  progress.addMessage(api(A, 'Downloading', 500, 1000));
  expect(state()).toEqual({ layersDone: 1, layers: 3, bytesDone: 500, bytes: 0 });
  progress.addMessage(api(C, 'Downloading', 1, 3000));
  expect(state()).toEqual({ layersDone: 1, layers: 3, bytesDone: 501, bytes: 4000 });
  progress.addMessage(api(A, 'Verifying Checksum'));
  progress.addMessage(api(A, 'Download complete'));
  progress.addMessage(api(A, 'Extracting', 200, 1000));
  progress.addMessage(api(C, 'Retrying in 5 seconds'));
  expect(state()).toEqual({ layersDone: 1, layers: 3, bytesDone: 1000, bytes: 4000 });
  progress.addMessage(api(A, 'Pull complete'));
  progress.addMessage(api(C, 'Pull complete'));
  progress.addMessage({ status: `Digest: ${DIGEST}` });
  progress.addMessage({ status: 'Status: Downloaded newer image for acme/web:1' });
  expect(state()).toEqual({ layersDone: 3, layers: 3, bytesDone: 4000, bytes: 4000 });
  expect(progress.digest).toBe(DIGEST);
});

test('docker pull: sizes are those we know', () => {
  const progress = new PullProgress([
    { digest: `sha256:${A}${'0'.repeat(52)}`, bytes: 1000 },
    { digest: `sha256:${B}${'0'.repeat(52)}`, bytes: 3000 },
  ]);
  for (const line of [
    'docker.io/acme/web:1: Pulling from acme/web',
    `${A}: Pulling fs layer`,
    `${B}: Pulling fs layer`,
    `${B}: Download complete\r`,
    `${B}: Pull complete`,
  ]) {
    progress.addLine(line);
  }
  expect(progress.state).toEqual({ layersDone: 1, layers: 2, bytesDone: 3000, bytes: 4000 });
  progress.addLine(`Digest: ${DIGEST}`);
  expect(progress.digest).toBe(DIGEST);
});

test('unknown words and ids are passed over', () => {
  const progress = new PullProgress();
  for (const message of [
    null,
    5,
    [],
    'x',
    {},
    api('latest', 'Pull complete'),
    api(A, 'Singing'),
    api('../x', 'Waiting'),
  ]) {
    progress.addMessage(message);
  }
  progress.addLine('abc: Pull complete');
  progress.addLine('Digest: sha256:short');
  expect(progress.state).toEqual({ layersDone: 0, layers: 0, bytesDone: 0, bytes: 0 });
  expect(progress.digest).toBe('');
});

test('no message makes more done than there is', () => {
  const statuses = [
    'Pulling fs layer',
    'Waiting',
    'Downloading',
    'Download complete',
    'Extracting',
    'Pull complete',
    'Already exists',
    'Retrying in 1 second',
    'x',
  ];
  const message = fc.record({
    id: fc.constantFrom(A, B, C, 'latest'),
    status: fc.constantFrom(...statuses),
    progressDetail: fc.record({ current: fc.double(), total: fc.double() }),
  });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 40 }), (messages) => {
      const progress = new PullProgress([{ digest: `sha256:${A}${'0'.repeat(52)}`, bytes: 10 }]);
      for (const one of messages) {
        progress.addMessage({
          ...one,
          progressDetail: { current: one.progressDetail.current, total: one.progressDetail.total },
        });
        const { layersDone, layers, bytesDone, bytes } = progress.state;
        expect(layersDone).toBeLessThanOrEqual(layers);
        expect(bytesDone).toBeGreaterThanOrEqual(0);
        expect(Number.isFinite(bytes)).toBe(true);
        expect(formatProgress('web', progress.state, 1)).toMatch(/^pulling web[ ,]/);
      }
    }),
    { numRuns: 1000 },
  );
});

test.each([
  [
    { layersDone: 3, layers: 7, bytesDone: 41.2e6, bytes: 120.4e6 },
    12.3,
    'pulling web 3/7 layers, 41.2 of 120.4 MB, 12 s',
  ],
  [{ layersDone: 0, layers: 2, bytesDone: 1234, bytes: 0 }, 3, 'pulling web 0/2 layers, 1.2 kB, 3 s'],
  [{ layersDone: 0, layers: 0, bytesDone: 0, bytes: 0 }, 3, 'pulling web, 3 s'],
  [{ layersDone: 1, layers: 2, bytesDone: 99e6, bytes: 50e6 }, 3, 'pulling web 1/2 layers, 50.0 of 50.0 MB, 3 s'],
])('%j', (state, seconds, text) => {
  expect(formatProgress('web', state, seconds)).toBe(text);
});

test.each([
  [{ layersDone: 7, layers: 7, bytesDone: 120.4e6, bytes: 120.4e6 }, 'pulled web: 7 layers, 120.4 MB, 14 s'],
  [{ layersDone: 1, layers: 1, bytesDone: 0, bytes: 0 }, 'pulled web: 1 layer, 14 s'],
  [{ layersDone: 0, layers: 0, bytesDone: 0, bytes: 0 }, 'pulled web: it was there already, 14 s'],
])('at the end: %j', (state, text) => {
  expect(formatPulled('web', state, 14)).toBe(text);
});

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [999.97, '1.0 kB'],
  [1000, '1.0 kB'],
  [999_940, '999.9 kB'],
  [999_960, '1.0 MB'],
  [1.25e9, '1.3 GB'],
  [3e15, '3000.0 TB'],
])('%d bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test('done and total share a unit', () => {
  expect(formatBytesOf(500, 2e9)).toBe('0.0 of 2.0 GB');
  expect(formatBytesOf(5, 10)).toBe('5 of 10 B');
});
