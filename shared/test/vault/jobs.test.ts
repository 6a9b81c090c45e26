import fc from 'fast-check';
import type { Backup } from '../../src/model/backup';
import { isInScope } from '../../src/model/backup';
import { describeScope, type Job, judgeRoom, listJobs } from '../../src/vault/jobs';
import type { Source } from '../../src/vault/sources';
import { layoutBackups } from '../../src/releases/backup-layout';
import { layoutStore } from '../../src/releases/layout';
import { backup, item } from '../backups/sample-backups';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';
import { FakeSession } from '../fakes/session';

const MB = 1_000_000;
/** What always has to be left over. */
const RESERVE = 64 * 1024 * 1024;

function job(source: string, bytes: number | undefined): Job {
  return { kind: 'files', source, bytes, folder: '/home/deploy/apps/shop', paths: [] };
}

const disk = (freeBytes: number, mountPoint = '/') => ({ mountPoint, freeBytes, freeInodes: 1_000_000 });
const PLAIN = { isSealed: false, isProven: false };

function judge(
  jobs: readonly Job[],
  room: { readonly free: number; readonly docker?: number; readonly history?: readonly Backup[] },
  options = PLAIN,
): string[] {
  return judgeRoom(
    jobs,
    room.history ?? [],
    {
      space: disk(room.free),
      dataRootSpace: room.docker === undefined ? disk(room.free) : disk(room.docker, '/var/lib/docker'),
    },
    options,
  ).map(({ message }) => message);
}

describe('room', () => {
  const db = job('postgres:db/app', 100 * MB);

  test('for what there is, with a quarter for growth', () => {
    expect(judge([db], { free: 125 * MB + RESERVE })).toEqual([]);
    expect(judge([db], { free: 125 * MB + RESERVE - 1 })).toEqual([expect.stringMatching(/^The backup needs about /)]);
  });

  test('by the last backup of each source, suspect or not, wherever one is', () => {
    const history = [
      backup(1, { items: [item('redis:cache', { plainBytes: 7 * MB, bytes: 2 * MB })] }),
      backup(3, { items: [item('postgres:db/app', { plainBytes: 900 * MB })] }),
      backup(2, { items: [item('postgres:db/app', { plainBytes: 40 * MB })], suspicions: ['lost much'] }),
    ];
    expect(judge([db], { history, free: 50 * MB + RESERVE })).toEqual([]);
    expect(judge([db], { history, free: 50 * MB + RESERVE - 1 })).toHaveLength(1);
    // What is stored is plain first.
    expect(judge([job('redis:cache', undefined)], { history, free: 8 * MB + RESERVE })).toHaveLength(1);
  });

  test('for the largest twice where it is encrypted', () => {
    const jobs = [db, job('postgres:db/small', 4 * MB)];
    const needed = 1.25 * 104 * MB + 1.25 * 100 * MB + RESERVE;
    const sealed = { isSealed: true, isProven: false };
    expect(judge(jobs, { free: needed }, sealed)).toEqual([]);
    expect(judge(jobs, { free: needed - 1 }, sealed)).toHaveLength(1);
  });

  test('for the proof where Docker keeps its data, on one disk or on two', () => {
    const proven = { isSealed: false, isProven: true };
    const half = 125 * MB + RESERVE;
    expect(judge([db], { free: 2 * half }, proven)).toEqual([]);
    expect(judge([db], { free: 2 * half - 1 }, proven)).toEqual([
      expect.stringMatching(/^The backup and its proof need/),
    ]);
    expect(judge([db], { free: half, docker: half }, proven)).toEqual([]);
    expect(judge([db], { free: half - 1, docker: half - 1 }, proven)).toEqual([
      expect.stringMatching(/^The backup needs .* on \/,/),
      expect.stringMatching(/^Its proof needs .* on \/var\/lib\/docker,/),
    ]);
    expect(judge([db], { free: half, docker: 0 })).toEqual([]);
  });

  test('is not judged where the server does not say', () => {
    expect(
      judgeRoom([db], [], { space: undefined, dataRootSpace: undefined }, { isSealed: true, isProven: true }),
    ).toEqual([]);
  });

  test('more of it never makes a finding (property)', () => {
    const size = fc.integer({ min: 0, max: 1_000 * MB });
    fc.assert(
      fc.property(
        fc.array(size, { maxLength: 4 }),
        size,
        size,
        fc.boolean(),
        fc.boolean(),
        (sizes, free, more, isSealed, isProven) => {
          const jobs = sizes.map((bytes, index) => job(`postgres:db/${index}`, bytes));
          const options = { isSealed, isProven };
          const [few, many] = [judge(jobs, { free }, options), judge(jobs, { free: free + more }, options)];
          expect(many.length).toBeLessThanOrEqual(few.length);
          expect(judge(jobs, { free: 0 }, options)).toHaveLength(1);
        },
      ),
    );
  });
});

test('the scope covers what the sources become, and nothing that nobody asked for', () => {
  const container = {} as Extract<Source, { kind: 'redis' }>['container'];
  const scope = describeScope([
    { kind: 'postgres', service: 'db', container, databases: [] },
    { kind: 'postgres', service: 'audit', container, databases: ['a', 'b/c'] },
    { kind: 'remote', server: 'cloud', image: 'postgres:17', databases: ['c'] },
    { kind: 'redis', service: 'cache', container },
    { kind: 'volume', volume: 'uploads', name: 'shop_uploads', quiet: 'live', images: [] },
    { kind: 'files', globs: ['conf', '*.md'] },
    { kind: 'release', release: '20261122T100000Z-ab12cd3' },
  ]);
  expect(scope).toEqual([
    'roles:db',
    'postgres:db',
    'roles:audit',
    'postgres:audit/a',
    'postgres:audit/b/c',
    'roles:cloud',
    'postgres:cloud/c',
    'redis:cache',
    'volume:uploads',
    'files:conf *.md',
    'files:release',
  ]);
  expect(isInScope(scope, 'postgres:db/any')).toBe(true);
  expect(isInScope(scope, 'postgres:audit/other')).toBe(false);
});

describe('the databases of a server', () => {
  const KEPT = 'slipway-kept-20261122T223100Z-k3v9qa-app';
  const ANSWER = [
    'pg_dump (PostgreSQL) 17.2',
    '{"kind":"server","version":170002,"user":"postgres","superuser":true}',
    ...['app', 'other db', KEPT, 'slipway-new-20261122T223100Z-k3v9qa-app', 'slipway'].map((name) =>
      JSON.stringify({ kind: 'database', name, bytes: 5 }),
    ),
    '',
  ].join('\n');

  async function list(...databases: readonly string[]): Promise<{ sources: string[]; shown: string[] }> {
    const session = new FakeSession(() => ({ stdout: ANSWER }));
    const reporter = new FakeReporter();
    const jobs = await listJobs(
      [{ kind: 'postgres', service: 'db', container: { id: 'c1', image: 'postgres:17' } as never, databases }],
      {
        project: 'shop',
        scratch: 'shop',
        layout: layoutBackups(layoutStore('/home/deploy/apps/shop')),
        session,
        remote: session,
        ports: { clock: new FakeClock(), reporter, runner: {} as never, signal: new AbortController().signal },
        limits: { stepSeconds: 60, memoryMegabytes: 64 },
      },
    );
    return { sources: jobs.map(({ source }) => source), shown: reporter.shown };
  }

  test('are all but those that a restore has left, which are said', async () => {
    const { sources, shown } = await list();
    expect(sources).toEqual(['roles:db', 'postgres:db/app', 'postgres:db/other db', 'postgres:db/slipway']);
    expect(shown).toEqual([expect.stringContaining(KEPT)]);
  });

  test('are those that were named, whatever they are called', async () => {
    expect(await list('other db', KEPT)).toEqual({
      sources: ['roles:db', 'postgres:db/other db', `postgres:db/${KEPT}`],
      shown: [],
    });
  });

  test('that are not there are named, with those that are', async () => {
    await expect(list('ap', 'app')).rejects.toMatchObject({
      message: 'Service db has no database ap.',
      hint: expect.stringContaining('It has app, other db') as string,
    });
  });
});
