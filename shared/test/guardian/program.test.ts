import { GUARDIAN } from '../../src/guardian/program';

test('it fits into the first packets of a connection, with the words around it: what is longer takes a turn more', () => {
  // https://www.rfc-editor.org/rfc/rfc6928: 10 packets; of 1400 bytes where the way is a tunnel.
  expect(GUARDIAN.length).toBeLessThan(13_700);
});
