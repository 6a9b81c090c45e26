import type { Command } from '../../src/model/command';
import type { ContainerState } from '../../src/probes/container';
import { layoutBackups } from '../../src/releases/backup-layout';
import { layoutStore } from '../../src/releases/layout';
import type { ServerFacts } from '../../src/server/facts';
import { recover, restoreAll } from '../../src/vault/restore';
import { sweep } from '../../src/vault/take';
import { scratchFor, ofChanges, type Vault } from '../../src/vault/vault';
import { item } from '../backups/sample-backups';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';
import { type Answer, FakeSession, type RecordedCommand } from '../fakes/session';

const TREE = { entries: { rows: 2, hash: 'a'.repeat(64) } };
const CONF = item('files:conf', { counts: TREE, compression: 'gzip', plainBytes: 3 });
const UPLOADS = item('volume:uploads', { counts: TREE, compression: 'gzip', plainBytes: 3, name: 'shop_uploads' });
const CACHE = item('redis:cache');
const RESTORED = '{"kind":"restored","kept":".slipway/kept-x","downSeconds":1,"seconds":2,"entries":1}\n';

const container = {
  id: 'c'.repeat(64),
  service: 'cache',
  state: 'running',
  oneoff: false,
  number: 1,
  image: 'redis:7',
};
const facts = { containers: [container as ContainerState] } as unknown as ServerFacts;

function vaultWith(answer: (recorded: RecordedCommand) => Answer | undefined): { vault: Vault; session: FakeSession } {
  const session = new FakeSession((recorded) =>
    recorded.purpose === 'look how far the restore came' ? { stdout: 'noted' } : answer(recorded),
  );
  const ports = {
    clock: new FakeClock(),
    reporter: new FakeReporter(),
    runner: {} as Vault['ports']['runner'],
    signal: new AbortController().signal,
  };
  const layout = layoutBackups(layoutStore('/home/deploy/apps/shop'));
  const limits = { stepSeconds: 60, memoryMegabytes: 64 };
  return { session, vault: { project: 'shop', layout, session, remote: session, ports, limits, scratch: 'shop' } };
}

const wordsOf = ({ command }: { readonly command: Command }): readonly string[] => command.words;
const noted = (session: FakeSession): { id: string; files: boolean; volumes: unknown[]; redis: string[] } => {
  const note = session.commands.find(({ purpose }) => purpose === 'note what is restored');
  return JSON.parse(note?.stdin ?? '{}') as ReturnType<typeof noted>;
};

test('what had ended well is taken back as well where a later step fails', async () => {
  const { session, vault } = vaultWith(({ purpose }) => {
    if (purpose === 'restore redis:cache') return { exitCode: 70, stderr: 'Redis does not start' };
    return purpose.startsWith('restore ') ? { stdout: RESTORED } : undefined;
  });
  await expect(
    restoreAll([CONF, UPLOADS, CACHE], '/backup', { files: 'in-place' }, facts, vault),
  ).rejects.toMatchObject({
    message: expect.stringContaining('Redis does not start') as string,
    hint: expect.stringMatching(/^What served before serves again, with the data that it had\./) as string,
  });
  const { id, ...rest } = noted(session);
  expect(rest).toMatchObject({
    files: true,
    redis: ['cache'],
    volumes: [{ name: 'shop_uploads', image: UPLOADS.image }],
  });
  const after = session.commands.slice(session.purposes.indexOf('restore redis:cache') + 1);
  expect(after.map(({ purpose }) => purpose)).toEqual([
    'look how far the restore came',
    'put the data of cache back',
    'put the content of volume shop_uploads back',
    'put the files back',
    'note that it was taken back',
  ]);
  // Without the id they would leave alone what has ended.
  for (const command of after.slice(1, 4)) expect(wordsOf(command)).toContain(id);
});

test('the note stays where not all could be taken back, and the next restore tries again', async () => {
  const { session, vault } = vaultWith(({ purpose }) =>
    purpose.startsWith('restore ') || purpose === 'put the files back' ? { exitCode: 70, stderr: 'disk' } : undefined,
  );
  await expect(restoreAll([CONF, UPLOADS], '/backup', { files: 'in-place' }, facts, vault)).rejects.toMatchObject({
    message: expect.stringContaining('could NOT be taken back wholly') as string,
    hint: expect.stringContaining('/home/deploy/apps/shop/.slipway/backups/restoring') as string,
  });
  expect(session.purposes).not.toContain('note that it was taken back');

  const note = JSON.stringify(noted(session));
  const next = vaultWith(({ purpose }) =>
    purpose === 'look for an interrupted restore' ? { stdout: note } : undefined,
  );
  expect(await recover(facts, next.vault)).toBe(true);
  expect(next.session.purposes).toEqual([
    'look for an interrupted restore',
    'put the content of volume shop_uploads back',
    'put the files back',
    'note that it was taken back',
  ]);
});

test('what came to its end long ago has been in use since, and is not put back', async () => {
  const note = JSON.stringify({
    id: '20261123T120000Z-abcdef',
    databases: [],
    redis: ['cache'],
    volumes: [{ name: 'v', image: 'i' }],
    files: true,
  });
  const { session, vault } = vaultWith(({ purpose }) =>
    purpose === 'look for an interrupted restore' ? { stdout: note } : undefined,
  );
  expect(await recover(facts, vault)).toBe(true);
  const [, ofRedis, ofVolume, ofFiles] = session.commands;
  // It looks whether it is half, before it touches anything.
  expect(wordsOf(ofRedis as RecordedCommand).join(' ')).toContain('echo half');
  for (const command of [ofVolume, ofFiles])
    expect(wordsOf(command as RecordedCommand)).not.toContain('20261123T120000Z-abcdef');
});

test('when the last answer was lost, and all is in service, nothing is taken back', async () => {
  const { session, vault } = vaultWith(({ purpose }) =>
    purpose.startsWith('restore ') ? { exitCode: 143 } : undefined,
  );
  const silent = { ...vault, session: new FakeSession(() => undefined) };
  await expect(restoreAll([CONF], '/backup', { files: 'in-place' }, facts, silent)).rejects.toMatchObject({
    message: expect.stringContaining('All was restored, and is in service') as string,
  });
  expect(session.purposes).not.toContain('put the files back');
});

test('a database that does not run keeps the note', async () => {
  const swaps = [{ database: 'app', fresh: 'slipway-new-1-app', kept: 'slipway-kept-1-app' }];
  const note = JSON.stringify({
    id: '20261123T120000Z-abcdef',
    databases: [{ service: 'db', user: 'postgres', swaps }],
    redis: [],
    volumes: [],
    files: false,
  });
  const { session, vault } = vaultWith(({ purpose }) =>
    purpose === 'look for an interrupted restore' ? { stdout: note } : undefined,
  );
  await expect(recover(facts, vault)).rejects.toThrow(/Service db does not run/);
  expect(session.purposes).not.toContain('note that it was taken back');
});

test('nothing noted, nothing taken back; a note that cannot be read is for a person', async () => {
  expect(await recover(facts, vaultWith(() => undefined).vault)).toBe(false);
  for (const text of ['{', '{"id":"../../x"}', '[]']) {
    const { session, vault } = vaultWith(() => ({ stdout: text }));
    await expect(recover(facts, vault)).rejects.toThrow(/cannot be read/);
    expect(session.commands).toHaveLength(1);
  }
});

test('the last step is the one that forgets the way back', async () => {
  const { session, vault } = vaultWith(({ purpose }) =>
    purpose.startsWith('restore ') ? { stdout: RESTORED } : undefined,
  );
  await restoreAll([CONF, UPLOADS], '/backup', { files: 'side' }, facts, vault);
  const forget = (command: RecordedCommand): boolean => wordsOf(command).includes(vault.layout.restoring);
  expect(session.commands.filter(forget).map(({ purpose }) => purpose)).toEqual([
    'note what is restored',
    'restore volume:uploads',
  ]);
});

test('a deploy and a backup never use, nor sweep, what the other has under way', async () => {
  const { session, vault } = vaultWith(() => undefined);
  const ofDeploy = ofChanges(vault);
  expect(scratchFor(vault, 'proof')).not.toMatchObject({ name: scratchFor(ofDeploy, 'proof').name });
  expect([scratchFor(vault, 'proof').project, scratchFor(ofDeploy, 'proof').project]).toEqual(['shop', 'shop.change']);
  await sweep(vault);
  await sweep(ofDeploy);
  expect(session.commands.map((command) => wordsOf(command).at(-1))).toEqual([
    '.partial',
    'shop',
    '.change.partial',
    'shop.change',
  ]);
});
