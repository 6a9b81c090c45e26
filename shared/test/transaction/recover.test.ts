import { ReleaseError } from '../../src/errors';
import { renderJournal } from '../../src/releases/journal';
import { layoutStore } from '../../src/releases/layout';
import { recover } from '../../src/transaction/recover';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';
import { FakeSession } from '../fakes/session';

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';
const layout = layoutStore('/srv/shop');
const journal = renderJournal({
  release: RELEASE,
  previous: PREVIOUS,
  runUrl: 'https://github.com/acme/shop/actions/runs/1',
  actor: 'alice',
  undo: [{ verb: 'restore-services', release: PREVIOUS, services: ['web'] }],
});

const context = (session: FakeSession): Parameters<typeof recover>[1] => ({
  session,
  reporter: new FakeReporter(),
  clock: new FakeClock(),
  layout,
  target: { project: 'shop', projectDirectory: '/srv/shop' },
});

test('what was interrupted is undone', async () => {
  const session = new FakeSession();
  await expect(recover({ journal, current: PREVIOUS }, context(session))).resolves.toEqual({
    release: RELEASE,
    verdict: 'undone',
    restored: ['web'],
  });
  expect(session.purposes).toEqual([`put back web of release ${PREVIOUS}`, 'close the journal']);
});

test('what had been committed is left alone, but for the journal', async () => {
  const session = new FakeSession();
  await expect(recover({ journal, current: RELEASE }, context(session))).resolves.toEqual({
    release: RELEASE,
    verdict: 'committed',
    restored: [],
  });
  expect(session.purposes).toEqual(['close the journal of a release that is live']);
});

test('what cannot be undone is an error that says where it comes from', async () => {
  const session = new FakeSession(() => ({ exitCode: 1 }));
  const failure = recover({ journal, current: PREVIOUS }, context(session));
  await expect(failure).rejects.toThrow(ReleaseError);
  await expect(failure).rejects.toThrow(
    /actions\/runs\/1\) was interrupted, and could not be put back:\nput back web of release/,
  );
});

test('a journal that is none is not carried out', async () => {
  const session = new FakeSession();
  await expect(
    recover({ journal: '{"version":1,"undo":["rm -rf /"]}', current: PREVIOUS }, context(session)),
  ).rejects.toThrow(SyntaxError);
  expect(session.commands).toEqual([]);
});
