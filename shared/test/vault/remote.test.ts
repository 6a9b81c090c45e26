import { InputError } from '../../src/errors';
import type { DatabaseServer } from '../../src/inputs/database-urls';
import { Secret } from '../../src/model/secret';
import { layoutBackups } from '../../src/releases/backup-layout';
import { layoutStore } from '../../src/releases/layout';
import { openServer, targetOf, withClients } from '../../src/vault/remote';
import { recover } from '../../src/vault/restore';
import type { Vault } from '../../src/vault/vault';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';
import { type Answer, FakeSession, type RecordedCommand } from '../fakes/session';

const CLOUD: DatabaseServer = {
  name: 'cloud',
  user: 'shop',
  database: '',
  remote: { host: 'db.example.com', port: 5432, password: new Secret('hidden') },
  secrets: [],
};
const ITEM = { service: '', source: 'postgres:cloud/app', user: 'other', image: 'postgres:16' };

function vaultWith(answer: (recorded: RecordedCommand) => Answer | undefined = () => undefined) {
  const session = new FakeSession(answer);
  const ports = {
    clock: new FakeClock(),
    reporter: new FakeReporter(),
    runner: {} as Vault['ports']['runner'],
    signal: new AbortController().signal,
  };
  const layout = layoutBackups(layoutStore('/home/deploy/apps/shop'));
  const limits = { stepSeconds: 60, memoryMegabytes: 64 };
  const vault: Vault = { project: 'shop', layout, session, remote: session, ports, limits, scratch: 'shop' };
  return { session, vault };
}

const STARTED = 'start the client programs for cloud';
const REMOVED = 'remove the client programs';

test('nothing is started that nobody asks for', async () => {
  const { session, vault } = vaultWith();
  expect(await withClients([CLOUD], 'postgres:17', vault, () => Promise.resolve(1))).toBe(1);
  expect(session.commands).toEqual([]);
});

test('what was started is removed, also where the work fails or the start did', async () => {
  for (const code of [0, 69]) {
    const { session, vault } = vaultWith(({ purpose }) => (purpose === STARTED ? { exitCode: code } : undefined));
    const work = withClients([CLOUD], 'postgres:17', vault, async (reaching) => {
      await openServer('cloud', '', reaching);
      throw new Error('the work failed');
    });
    await expect(work).rejects.toThrow(code === 0 ? 'the work failed' : STARTED);
    expect(session.purposes).toEqual([STARTED, REMOVED]);
    const [start, remove] = session.commands.map(({ command }) => command.words);
    const name = remove?.at(-1) ?? '';
    expect(name).toMatch(/^slipway-scratch-shop-client-cloud-[0-9a-f]{8}$/);
    expect(start).toContain(name);
    expect(JSON.stringify(session.commands)).not.toContain('hidden');
  }
});

test('two runs never have one helper, one run has one for each server', async () => {
  const names = new Set<string>();
  for (let run = 0; run < 2; run++) {
    const { vault } = vaultWith();
    await withClients([CLOUD, { ...CLOUD, name: 'other' }], 'postgres:17', vault, async (reaching) => {
      for (const name of ['cloud', 'other', 'cloud']) names.add((await openServer(name, '', reaching)).container);
    });
  }
  expect(names.size).toBe(4);
});

test('the user is that of the URL, the image what was given, else the one of the backup', async () => {
  for (const [image, used] of [
    ['postgres:17', 'postgres:17'],
    ['', 'postgres:16'],
  ] as const) {
    const { session, vault } = vaultWith();
    const target = await withClients([CLOUD], image, vault, (reaching) => targetOf(ITEM, [], reaching));
    expect(target).toMatchObject({ user: 'shop', remote: CLOUD.remote });
    expect(session.commands[0]?.command.words).toContain(used);
  }
  const { vault } = vaultWith();
  await expect(withClients([CLOUD], '', vault, (reaching) => openServer('cloud', '', reaching))).rejects.toMatchObject({
    hint: expect.stringContaining('database-image') as string,
  });
});

test('nobody is connected to a database that gets another name', async () => {
  const { vault } = vaultWith();
  await withClients([CLOUD], 'postgres:17', vault, async (reaching) => {
    expect((await targetOf(ITEM, [], reaching, ['app'])).remote?.database).toBeUndefined();
    expect((await targetOf(ITEM, [], reaching, ['app', 'postgres'])).remote?.database).toBe('template1');
  });
});

test('a server without its URL is a matter of the input, whether others have one or none has', async () => {
  const { session, vault } = vaultWith();
  await expect(targetOf(ITEM, [], vault)).rejects.toThrow(InputError);
  const others = withClients([{ ...CLOUD, name: 'other' }], 'postgres:17', vault, (reaching) =>
    targetOf(ITEM, [], reaching),
  );
  await expect(others).rejects.toThrow('database-urls: has no server cloud');
  expect(session.commands).toEqual([]);
});

test('what was under way at a server behind a URL is taken back there; without the URL it stays noted', async () => {
  const id = '20261123T100000Z-abcdef';
  const swaps = [{ database: 'app', fresh: `slipway-new-${id}-app`, kept: `slipway-kept-${id}-app` }];
  const databases = [{ service: '', source: 'postgres:cloud', user: 'shop', image: 'postgres:16', swaps }];
  const note = JSON.stringify({ id, databases, redis: [], volumes: [], files: false });
  const answer = ({ purpose }: RecordedCommand): Answer | undefined =>
    purpose === 'look for an interrupted restore' ? { stdout: note } : undefined;
  const { session, vault } = vaultWith(answer);
  await withClients([CLOUD], '', vault, (reaching) => recover({ containers: [] }, reaching));
  expect(session.purposes).toEqual([
    'look for an interrupted restore',
    STARTED,
    'give the databases of cloud their names back',
    STARTED,
    'drop unfinished databases of cloud',
    'note that it was taken back',
    REMOVED,
  ]);
  const without = vaultWith(answer);
  await expect(recover({ containers: [] }, without.vault)).rejects.toThrow('has no server cloud');
  expect(without.session.purposes).toEqual(['look for an interrupted restore']);
});
