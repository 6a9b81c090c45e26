import { LOCK_LOST } from '../../src/commands/store';
import { LockLostError, ReleaseError } from '../../src/errors';
import { parseJournal, renderJournal } from '../../src/releases/journal';
import { layoutStore } from '../../src/releases/layout';
import { recover } from '../../src/transaction/recover';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';
import { FakeSession } from '../fakes/session';

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';
const layout = layoutStore('/srv/shop');
const journal = renderJournal({
  project: 'shop',
  timeoutSeconds: 600,
  release: RELEASE,
  previous: PREVIOUS,
  runUrl: 'https://github.com/acme/shop/actions/runs/1',
  actor: 'alice',
  undo: [{ verb: 'restore-services', release: PREVIOUS, services: ['web'], awaited: [] }],
});

/** What ends it, when a person has put things right. */
const FORGET = 'mv /srv/shop/.slipway/journal /srv/shop/.slipway/journal.ended';

const context = (session: FakeSession): Parameters<typeof recover>[1] => ({
  session,
  reporter: new FakeReporter(),
  clock: new FakeClock(),
  layout,
  token: 'token-1',
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
  expect(session.commands[0]?.timeoutSeconds).toBe(600);
  for (const { command } of session.commands) {
    expect(command.words.slice(0, 2)).toEqual(['flock', layout.step]);
    expect(command.words).toContain('token-1');
  }
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
  await expect(failure).rejects.toMatchObject({ hint: expect.stringContaining(FORGET) as string });
});

test.each(['{"version":1,"undo":["rm -rf /"]}', '{"version":1', '', 'null'])(
  'a journal that is none (%j) is not carried out, and the way out is told',
  async (text) => {
    const session = new FakeSession();
    const failure = recover({ journal: text, current: PREVIOUS }, context(session));
    await expect(failure).rejects.toThrow(ReleaseError);
    await expect(failure).rejects.toThrow(
      'A deploy was interrupted at deploy@server, and its journal /srv/shop/.slipway/journal cannot be read: ',
    );
    await expect(failure).rejects.toMatchObject({
      hint: expect.stringContaining(FORGET) as string,
      cause: expect.any(SyntaxError) as unknown,
    });
    expect(session.commands).toEqual([]);
  },
);

test.each([PREVIOUS, RELEASE, undefined])(
  'a journal of another project is not carried out, whatever is current (%s)',
  async (current) => {
    const session = new FakeSession();
    const other = renderJournal({ ...parseJournal(journal), project: 'blog' });
    const failure = recover({ journal: other, current }, context(session));
    await expect(failure).rejects.toThrow(ReleaseError);
    await expect(failure).rejects.toThrow(
      'An interrupted deploy of another project, blog, left its journal in /srv/shop.',
    );
    expect(session.commands).toEqual([]);
  },
);

test('whoever has lost the lock leaves the rest to the one that has it', async () => {
  const session = new FakeSession(() => ({ exitCode: LOCK_LOST }));
  await expect(recover({ journal, current: PREVIOUS }, context(session))).rejects.toThrow(LockLostError);
  expect(session.commands).toHaveLength(1);
});
