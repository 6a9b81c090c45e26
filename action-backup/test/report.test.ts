import fc from 'fast-check';
import { judgeFreshness } from '#shared/backups/freshness';
import { BackupError } from '#shared/errors';
import type { Backup } from '#shared/model/backup';
import type { Shelf } from '#shared/vault/shelf';
import { backup, item, NOW, proof } from '../../shared/test/backups/sample-backups';
import { HOSTILE } from '../../shared/test/shells';
import { type BackupReport, createReport, describeBackup, renderSummary, setOutputs, sumProof } from '../src/report';

const redact = (text: string): string => text.replaceAll('hunter2', '***');

function outputsOf(over: Partial<BackupReport> = {}): Record<string, string> {
  const outputs: Record<string, string> = {};
  setOutputs(
    { ...createReport(), ...over },
    {
      setOutput: (name, value) => {
        outputs[name] = value;
      },
    },
    redact,
  );
  return outputs;
}

const summary = (over: Partial<BackupReport>): string => renderSummary({ ...createReport(), ...over });
const shelf = (backups: readonly Backup[], over: Partial<Shelf> = {}): Shelf => ({
  backups,
  here: new Set(backups.map(({ id }) => id)),
  elsewhere: new Set(),
  foreign: [],
  problems: [],
  ...over,
});

const PROVEN = backup(2, {
  items: [
    item('roles:db', { bytes: 10, proof: proof(4.2) }),
    item('postgres:db/app', {
      bytes: 1000,
      proof: proof(4.2),
      counts: { 'public.orders': { rows: 7, hash: '1' }, 'public.t': { rows: 3, hash: '2' } },
    }),
    item('redis:cache', {
      bytes: 90,
      proof: proof(1.1),
      counts: { db0: { rows: 5, hash: '' } },
      offsite: { url: 's3://b/shop/x', verifiedAt: '2026-11-22T22:35:00Z' },
    }),
  ],
});

test('outputs of a run that ended before anything was known', () => {
  expect(outputsOf()).toEqual({
    backup: '',
    result: 'failed',
    bytes: '',
    items: '[]',
    'recovery-seconds': '',
    'age-seconds': '',
    backups: '[]',
    removed: '[]',
    differences: '[]',
  });
});

test('outputs of a backup', () => {
  const outputs = outputsOf({ backup: PROVEN, result: 'proven' });
  expect(outputs).toMatchObject({ backup: PROVEN.id, result: 'proven', bytes: '1100', 'recovery-seconds': '6' });
  expect(JSON.parse(outputs['items'] ?? '')).toEqual([
    { source: 'roles:db', bytes: 10, rows: 0, proven: true, offsite: '' },
    { source: 'postgres:db/app', bytes: 1000, rows: 10, proven: true, offsite: '' },
    { source: 'redis:cache', bytes: 90, rows: 5, proven: true, offsite: 's3://b/shop/x' },
  ]);
});

test('a proof of roles is that of their databases, and is not counted twice', () => {
  expect(sumProof(PROVEN)).toBeCloseTo(5.3);
  expect(sumProof(backup(1, { items: [item('redis:cache', { proof: undefined })] }))).toBe(0);
});

test('outputs say where each backup is', () => {
  const [here, both, away] = [backup(1), backup(2, { encrypted: ['age1x'] }), backup(3)];
  const outputs = outputsOf({
    shelf: shelf([here, both, away], { here: new Set([here.id, both.id]), elsewhere: new Set([both.id, away.id]) }),
  });
  const all = JSON.parse(outputs['backups'] ?? '') as { encrypted: boolean; onServer: boolean; offsite: boolean }[];
  expect(all.map(({ encrypted, onServer, offsite }) => [encrypted, onServer, offsite])).toEqual([
    [false, true, false],
    [true, true, true],
    [false, false, true],
  ]);
});

test('backups of other servers are told as such', () => {
  const [own, foreign] = [backup(1), backup(2, { server: 'deploy@198.51.100.9' })];
  const both = shelf([own], { foreign: [foreign], elsewhere: new Set([foreign.id]) });
  const listed = JSON.parse(outputsOf({ shelf: both })['backups'] ?? '') as { id: string; server: string }[];
  expect(listed.map(({ id, server }) => [id, server])).toEqual([
    [own.id, own.server],
    [foreign.id, 'deploy@198.51.100.9'],
  ]);
  expect(describeBackup(foreign, both)).toContain('off-site and of deploy@198.51.100.9:');
  expect(describeBackup(own, both)).not.toContain(' of ');
  expect(summary({ shelf: both, result: 'listed' })).toMatch(/off-site, deploy@.?198\.51\.100\.9/);
});

describe('the age of what would be lost', () => {
  const age = (backups: readonly Backup[], required?: readonly string[]): string | undefined =>
    outputsOf({ freshness: judgeFreshness(backups, 3600, NOW, required) })['age-seconds'];

  test('is that of the oldest', () => {
    const backups = [
      backup(1, { items: [item('postgres:db/app')], scope: ['postgres:db'] }),
      backup(5, { items: [item('redis:cache')], scope: ['redis:cache'] }),
    ];
    expect(age(backups)).toBe(String(5 * 3600));
  });

  test('is unknown, and not small, where something has no proven backup', () => {
    expect(age([backup(1)], ['postgres:db', 'redis:cache'])).toBe('');
    expect(age([])).toBe('');
  });
});

test('no output holds what is masked', () => {
  const secret = backup(1, { items: [item('postgres:db/hunter2')], release: '' });
  const outputs = outputsOf({
    backup: secret,
    shelf: shelf([secret]),
    differences: [{ source: 'postgres:db/hunter2', table: 'public.hunter2', now: 1, then: undefined }],
  });
  expect(JSON.stringify(outputs)).not.toContain('hunter2');
  expect(JSON.parse(outputs['differences'] ?? '')).toEqual([
    { source: 'postgres:db/***', table: 'public.***', now: 1 },
  ]);
});

describe('the summary', () => {
  test('of a backup', () => {
    const text = summary({
      result: 'proven',
      project: 'shop',
      where: 'deploy@server',
      backup: PROVEN,
      durations: { read: 1.25 },
    });
    expect(text).toContain('### Backed up, and proven: shop on deploy@\u200dserver');
    expect(text).toContain('restored in 5 s, so a recovery takes that at least');
    expect(text).toContain('| postgres:db/app | 1.0 kB | 10 | in 4.2 s |  |');
    expect(text).toContain('| redis:cache | 90 B | 5 | in 1.1 s | read back |');
    expect(text).toContain('read 1.3 s');
  });

  test('of one that is suspect says why', () => {
    const suspect = backup(1, { suspicions: ['Table public.orders has vanished.'] });
    const text = summary({ result: 'suspect', backup: suspect });
    expect(text).toContain('### SUSPECT');
    expect(text).toContain('> Table public.orders has vanished.');
  });

  test('of a restore says what it replaced, and of a dry run what would be lost', () => {
    const text = summary({
      result: 'restored',
      restored: [{ source: 'redis:cache', seconds: 2.26, downSeconds: 1, kept: 'It is beside.' }],
      differences: [{ source: 'postgres:db/app', table: 'public.orders', now: undefined, then: 4 }],
    });
    expect(text).toContain('| redis:cache | 2.3 | 1 s | It is beside. |');
    expect(text).toContain('| postgres:db/app: public.orders | not there | 4 |');
  });

  test('has a list where one was asked for', () => {
    const listed = { shelf: shelf([PROVEN], { elsewhere: new Set([PROVEN.id]) }) };
    const row = `| ${PROVEN.id} | proven |`;
    expect(summary({ ...listed, result: 'listed' })).toContain(row);
    expect(summary({ ...listed, result: 'listed' })).toContain('| server, off-site |');
    expect(summary({ ...listed, result: 'proven' })).not.toContain(row);
    expect(summary({ ...listed, result: 'planned', removed: ['a', 'b'] })).toContain('Would be removed: a, b');
    expect(summary({ ...listed, result: 'pruned', removed: ['a'] })).toContain('\nRemoved: a');
  });

  test('of what is too old', () => {
    const text = summary({
      result: 'stale',
      freshness: judgeFreshness([backup(5)], 3600, NOW, ['postgres:db', 'redis:cache']),
    });
    expect(text).toContain('### BACKUPS ARE TOO OLD');
    expect(text).toMatch(/\| postgres:db\/app \| \S+ \| 5 h \| 4 s \| too old \|/);
    expect(text).toContain('| redis:cache | none |  |  | too old |');
  });

  test('stays within what GitHub takes, however many tables differ', () => {
    const differences = Array.from({ length: 20_000 }, (_, index) => ({
      source: 'postgres:db/app',
      table: `t${index}`,
      now: 1,
      then: 2,
    }));
    const failure = new BackupError('x'.repeat(2_000_000), '');
    expect(Buffer.byteLength(summary({ differences, failure }))).toBeLessThan(500_000);
  });

  const HOSTILE_MARKDOWN = [
    '</summary><script>alert(1)</script>',
    '| a | b |',
    '[x](https://evil.example)',
    '![x](y)',
    '@octocat',
    '````\n# x',
    '<img src=x>',
    '# x\n\n# y',
  ];

  test.each([...HOSTILE, ...HOSTILE_MARKDOWN])('shows %j as it is', (text) => {
    const bad = `${text}\u202e`;
    const hostile = summary({
      result: 'restored',
      project: bad,
      where: bad,
      backup: backup(1, { items: [item(`files:${bad}`, { file: 'x' })], suspicions: [bad] }),
      restored: [{ source: bad, seconds: 1, downSeconds: 0, kept: bad }],
      differences: [{ source: bad, table: bad, now: 1, then: 2 }],
      removed: [bad],
      warnings: [bad],
      durations: { [bad]: 1 },
    });
    expect(hostile).not.toMatch(/<(?!\/?sub>)/);
    expect(hostile).not.toMatch(/(?<!\\)!\[|(?<!\\)\]\(|https:\/\/evil|@octocat|\u202e/);
    // Nothing of it begins a line of its own: neither a heading, nor a fence, nor another row.
    for (const line of hostile.split('\n'))
      expect(line).toMatch(/^$|^### Restored|^\*\*2026|^> |^\| |^Removed: |^<sub>/);
    for (const row of hostile.split('\n').filter((line) => line.startsWith('| '))) {
      const cells = row.split(/(?<!\\)\|/).length - 2;
      expect([3, 4, 5]).toContain(cells);
    }
  });

  test('of a failure is fenced, so that nothing in it is Markdown (property)', () => {
    const text = fc.string({ unit: fc.constantFrom('`', '\n', '#', ' ', 'x', '<b>', '~'), maxLength: 40 });
    fc.assert(
      fc.property(text, text, (message, hint) => {
        const rendered = summary({ failure: new BackupError(message, hint), durations: {} });
        const [, fence = '', body] = /^### FAILED\n\n(`{4,})text\n([^]*)\n\1\n$/.exec(rendered) ?? [];
        expect(body).toBeDefined();
        expect(body).not.toContain(fence);
      }),
    );
  });
});

test('a backup in the list of the log', () => {
  const one = backup(1, { encrypted: ['age1x'] });
  expect(describeBackup(one, shelf([one], { elsewhere: new Set([one.id]) }))).toBe(
    `${one.id}  proven      1.0 MB  on the server and off-site, encrypted: postgres:db/app`,
  );
});
