import { GUARDIAN } from '../../src/guardian/program';

test('it fits into the first packets of a connection, with the words around it: what is longer takes a turn more', () => {
  // https://www.rfc-editor.org/rfc/rfc6928: 10 packets of 1448 bytes, with about 300 bytes around it.
  expect(GUARDIAN.length).toBeLessThan(14_100);
});
