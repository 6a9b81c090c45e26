import { PreflightError } from '../../src/errors';
import { layoutStore } from '../../src/releases/layout';
import type { ServerFacts } from '../../src/server/facts';
import { adoptProject, describeAdoption, isAdoptable } from '../../src/transaction/adopt';
import { FakeClock } from '../fakes/clock';
import { FakeSession, type Answer } from '../fakes/session';

const container = (over: object = {}): object => ({ service: 'web', configHash: 'h', oneoff: false, ...over });
const facts = (over: object = {}): ServerFacts =>
  ({ current: undefined, containers: [container()], releases: [], ...over }) as unknown as ServerFacts;

test.each([
  [{}, true],
  [{ containers: [] }, false],
  [{ containers: [container({ oneoff: true })] }, false],
  [{ current: '20261122T100000Z-aaaaaaa' }, false],
])('isAdoptable with %j is %p', (over, expected) => {
  expect(isAdoptable(facts(over))).toBe(expected);
});

const RENDERED = JSON.stringify({
  name: 'shop',
  services: { web: { image: 'web:1', environment: { TOKEN: 'SENTINEL' } } },
});

async function adopt(
  answer: (purpose: string) => Answer | undefined,
): Promise<{ adopted: ServerFacts; session: FakeSession }> {
  const session = new FakeSession(({ purpose }) => answer(purpose));
  const adopted = await adoptProject(
    'shop',
    facts(),
    layoutStore('/srv/shop'),
    session,
    new FakeClock('2026-11-22T12:00:00Z'),
    new AbortController().signal,
  );
  return { adopted, session };
}

test('what runs becomes the current release, and nothing that runs is touched', async () => {
  const { adopted, session } = await adopt((purpose) =>
    purpose.startsWith('read') ? { stdout: `/srv/shop\n${RENDERED}` } : undefined,
  );
  const id = '20261122T120000Z-adopted';
  expect(adopted).toMatchObject({
    current: id,
    releases: [
      { id, result: 'adopted', services: { web: { reference: 'web:1', image: 'web:1', configHash: 'h' } }, files: [] },
    ],
  });
  expect(adopted.currentCompose).toContain('SENTINEL');
  expect(session.purposes).toEqual([
    'read the Compose files of the running project',
    'record the running project as a release',
    'make that record the current release',
  ]);
  for (const { text } of session.commands) expect(text).not.toContain('SENTINEL');
  expect(session.commands[1]?.stdin).toContain('SENTINEL');
});

test('a dry run learns the same, and stores nothing', async () => {
  const session = new FakeSession(() => ({ stdout: `/srv/shop\n${RENDERED}` }));
  const clock = new FakeClock('2026-11-22T12:00:00Z');
  const { signal } = new AbortController();
  const known = await describeAdoption('shop', facts(), layoutStore('/srv/shop'), session, clock, signal);
  expect(known.release).toMatchObject({ result: 'adopted', services: { web: { image: 'web:1' } } });
  expect(known.compose).toContain('SENTINEL');
  expect(session.purposes).toEqual(['read the Compose files of the running project']);
});

test.each([
  [{ exitCode: 66, stderr: '/old/compose.yaml\n' }, 'its Compose file /old/compose.yaml cannot be read'],
  [{ exitCode: 1, stderr: 'no such file' }, 'its Compose files cannot be rendered: no such file'],
])('without a way back there is no deploy: %j', async (answer, why) => {
  const failure = adopt(() => answer);
  await expect(failure).rejects.toThrow(PreflightError);
  await expect(failure).rejects.toThrow(
    `A project shop runs there that Slipway did not deploy, and ${why}: a failed deploy could not be put back.`,
  );
});

test('a project is adopted in its own folder only: elsewhere its relative mounts would be empty', async () => {
  const failure = adopt(() => ({ stdout: `/srv/old\n${RENDERED}` }));
  await expect(failure).rejects.toThrow(PreflightError);
  await expect(failure).rejects.toThrow(
    'A project shop runs there already, in /srv/old, and this deploy is for /srv/shop. Set the input path to /srv/old',
  );
});
