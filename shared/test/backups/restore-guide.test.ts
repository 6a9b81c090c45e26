import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { parse } from 'yaml';
import { renderRestoreGuide } from '../../src/backups/restore-guide';
import type { Backup, BackupItem } from '../../src/model/backup';
import { script } from '../../src/shell/render';
import { HOSTILE, Machine, SHELLS } from '../shells';
import { backup, counts, item } from './sample-backups';

interface Block {
  readonly language: string;
  readonly text: string;
}

/** The fenced blocks as CommonMark has them: https://spec.commonmark.org/0.31.2/#fenced-code-blocks */
function listBlocks(guide: string): Block[] {
  const blocks: { language: string; lines: string[] }[] = [];
  let mark = '';
  for (const line of guide.split('\n')) {
    const [, begin = '', language = ''] = /^(`{3,})([^`]*)$/.exec(line) ?? [];
    if (mark === '' && begin !== '') {
      mark = begin;
      blocks.push({ language, lines: [] });
    } else if (mark !== '' && begin.length >= mark.length && language.trim() === '') mark = '';
    else if (mark !== '') blocks.at(-1)?.lines.push(line);
  }
  expect(mark).toBe('');
  return blocks.map(({ language, lines }) => ({ language, text: lines.join('\n') }));
}

const shellOf = (guide: string): string =>
  listBlocks(guide)
    .filter(({ language }) => language === 'sh')
    .map(({ text }) => text)
    .join('\n');

/** One of each kind, all with one name in every place where a name goes. */
function hostileItems(name: string): BackupItem[] {
  return [
    item(`redis:${name}`, { service: name }),
    item(`postgres:${name}`, { service: name, name, user: name, counts: counts({ [name]: 5 }) }),
    item(`roles:${name}`, { service: name, user: name }),
    item(`volume:${name}`, {}),
    item(`files:${name}`),
  ];
}

/** Files of which only the name and the checksum count. */
function withContent(one: BackupItem, machine: Machine, content: string | Buffer = 'x'): BackupItem {
  writeFileSync(machine.path(one.file), content);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const bytes = Buffer.from(content).length;
  return one.compression === 'none'
    ? { ...one, sha256, bytes, plainSha256: sha256, plainBytes: bytes }
    : { ...one, sha256, bytes };
}

/** A Docker in which everything is as it should be. */
const WELL = `case "$*" in
  *' PING') echo PONG ;;
  *' INFO persistence') printf 'aof_rewrite_in_progress:0\\r\\naof_rewrite_scheduled:0\\r\\naof_last_bgrewrite_status:ok\\r\\n' ;;
  inspect*Running*) echo true ;;
  inspect*) echo image-id ;;
  ps*) echo c0ffee ;;
  'exec --interactive '* | 'run --rm --interactive '*) cat >/dev/null ;;
esac`;

const NAMES = HOSTILE.filter((name) => name !== '' && !name.includes('\n'));

describe.each(SHELLS)('in $name', (shell) => {
  test.each(NAMES)('a guide full of %j runs to its end, and the name is a word', (name) => {
    const machine = new Machine(shell).withDocker(WELL);
    try {
      const items = hostileItems(name).map((one) => withContent(one, machine));
      const ran = machine.run(
        script(`tar() { :; }\ncp() { :; }\n${shellOf(renderRestoreGuide(backup(1, { items })))}`),
      );
      expect(ran.stderr).toBe('');
      expect(ran.exitCode).toBe(0);
      expect(ran.stdout).toContain('restored into slipway_restore_k3v9qa_4');
      expect(ran.stdout).toContain('placed dump.rdb');
      expect(ran.stdout).toContain('wrote the append-only file');
      expect(ran.stdout).toContain('restored shop_uploads');
      expect(machine.calls).toContain(
        `<ps><--quiet><--filter><label=com.docker.compose.project=shop><--filter><label=com.docker.compose.service=${name}><--filter><label=com.docker.compose.oneoff=False>`,
      );
      expect(machine.calls.filter((call) => call.includes(`<--set=name=${name}>`))).toHaveLength(2);
      expect(machine.calls).toContain(
        `<exec><--interactive><--env><PGPASSWORD><c0ffee><pg_restore><--username=${name}><--dbname=slipway_restore_k3v9qa_4><--exit-on-error>`,
      );
      expect(machine.run(script('[ ! -e pwned ]')).exitCode).toBe(0);
    } finally {
      machine.remove();
    }
  });

  test('a block stops at its first error, and does not say that it is done', () => {
    const machine = new Machine(shell).withDocker(`case "$*" in *pg_restore* | *'--user 0'*) exit 1 ;; esac\n${WELL}`);
    try {
      const items = hostileItems('db').map((one) => withContent(one, machine));
      const { stdout } = machine.run(
        script(`tar() { :; }\ncp() { :; }\n${shellOf(renderRestoreGuide(backup(1, { items })))}`),
      );
      expect(stdout).not.toMatch(/restored into|placed|restored shop/);
    } finally {
      machine.remove();
    }
  });

  test('what is compressed is unpacked and compared before it is used', () => {
    const machine = new Machine(shell).withDocker('cat >"$0.stdin"');
    try {
      const packed = item('roles:db', {
        compression: 'gzip',
        plainSha256: createHash('sha256').update('plain').digest('hex'),
      });
      const guide = renderRestoreGuide(backup(1, { items: [withContent(packed, machine, gzipSync('plain'))] }));
      const { stdout } = machine.run(script(shellOf(guide)));
      expect(stdout).toContain('roles@db.sql.gz: OK\nroles@db.sql: OK\n');
      expect(stdout).toContain('no container of db runs: start it first');
      expect(machine.run(script('cat bin/docker.stdin')).stdout).toBe('plain');
    } finally {
      machine.remove();
    }
  });
});

test('any name is a word: without the quoted words, nothing of it is left in the commands (property)', () => {
  const machine = new Machine(SHELLS[0] ?? { name: 'sh', words: ['sh'] });
  const name = fc
    .string({
      unit: fc.oneof(
        fc.constantFrom("'", '"', '$', '`', '\\', '(', ')', ';', ' ', '!', '-'),
        fc.string({ minLength: 1, maxLength: 1 }),
      ),
      minLength: 1,
      maxLength: 30,
    })
    .map((text) => `${text}Qx`);
  try {
    fc.assert(
      fc.property(name, (text) => {
        const shell = shellOf(renderRestoreGuide(backup(1, { items: hostileItems(text) })));
        const assignments = shell.split('\n').filter((line) => /^(service|user|database)=/.test(line));
        expect(assignments).toHaveLength(6);
        const { stdout } = machine.run(
          script(`${assignments.join('\n')}\nprintf '%s\\0' "$service" "$user" "$database"`),
        );
        expect(stdout).toBe(`${text}\0${text}\0${text}\0`);
        const others = shell.split('\n').filter((line) => !assignments.includes(line));
        // Names of files have it too, but in letters that need no quotes.
        expect(
          others.filter((line) => line.includes('Qx') && !/^(file=|[0-9a-f]{64} {2})[A-Za-z0-9._@+=-]+$/.test(line)),
        ).toEqual([]);
      }),
      { numRuns: 100 },
    );
  } finally {
    machine.remove();
  }
});

describe('the text', () => {
  const headings = (guide: string): string[] => guide.split('\n').filter((line) => /^#+ /.test(line));

  test('what is needed first comes first', () => {
    const items = [
      item('redis:cache'),
      item('postgres:db/app'),
      item('roles:db'),
      item('volume:uploads'),
      item('files:.env'),
    ];
    expect(headings(renderRestoreGuide(backup(1, { items })))).toEqual([
      '# How to restore shop from 20261122T213100Z-k3v9qa',
      '## With Slipway',
      '## By hand',
      '### What is in this folder',
      '### 1. Check the files',
      '### 2. Files: `files:.env`',
      '### 3. Volume: `volume:uploads`',
      '### 4. PostgreSQL, roles: `roles:db`',
      '### 5. PostgreSQL: `postgres:db/app`',
      '### 6. Redis: `redis:cache`',
    ]);
  });

  test('the step does the same', () => {
    const [step] = listBlocks(renderRestoreGuide(backup(1, { project: '007' }))).filter(
      ({ language }) => language === 'yaml',
    );
    expect(parse(step?.text ?? '')).toEqual([
      {
        uses: 'your-org/slipway/action-backup@v1',
        with: {
          host: 'shop.example.com',
          'ssh-key': '${{ secrets.SSH_KEY }}',
          'known-hosts': '${{ vars.SSH_KNOWN_HOSTS }}',
          project: '007',
          mode: 'restore',
          backup: '20261122T213100Z-k3v9qa',
          confirm: '007',
        },
      },
    ]);
  });

  const AGE = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';
  test('what is encrypted is decrypted, decompressed and compared first, into a folder that only its owner reads', () => {
    const file = 'postgres@db+app.dump.zst.age';
    const one = item('postgres:db/app', { compression: 'zstd', file, plainSha256: 'c'.repeat(64) });
    const guide = renderRestoreGuide(backup(1, { items: [one], encrypted: [AGE] }));
    expect(headings(guide)).toContain('### 2. Decrypt them');
    expect(guide).toContain(`- \`${AGE}\``);
    expect(guide).toContain('    age-key: ${{ secrets.AGE_KEY }}\n');
    expect(shellOf(guide)).toContain(`identity=/path/to/the/key.txt
(
set -eu
umask 077
mkdir -p plain
age --decrypt --identity "$identity" --output plain/postgres@db+app.dump.zst postgres@db+app.dump.zst.age
zstd -dc plain/postgres@db+app.dump.zst >plain/postgres@db+app.dump
cd plain
sha256sum -c <<'END'
${'c'.repeat(64)}  postgres@db+app.dump
END
)`);
    expect(shellOf(guide)).toContain('file=plain/postgres@db+app.dump\n');
  });

  test('a database named postgres is renamed from another one', () => {
    const shell = (name: string): string =>
      shellOf(renderRestoreGuide(backup(1, { items: [item(`postgres:db/${name}`)] })));
    expect(shell('app')).toContain('\nmaintenance=postgres\n');
    expect(shell('postgres')).toContain('\nmaintenance=template1\n');
  });

  test('a server that is reached by a URL is asked by a container of the image', () => {
    const one = item('postgres:pg.example.com/app', { service: '' });
    const shell = shellOf(renderRestoreGuide(backup(1, { items: [one] })));
    expect(shell).toContain(`image=${one.image}\n`);
    expect(shell).toContain('run() { docker run --rm --interactive --network host --env PGHOST');
    expect(shell).not.toContain('com.docker.compose');
  });

  test('what it must have afterwards is said, the longest lists cut', () => {
    const rows = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`public.t${index + 10}`, index]));
    const [list] = listBlocks(
      renderRestoreGuide(backup(1, { items: [item('postgres:db/app', { counts: counts(rows) })] })),
    ).filter(({ language }) => language === 'text');
    const lines = list?.text.split('\n') ?? [];
    expect([lines.length, lines[0], lines.at(-1)]).toEqual([51, 'public.t10|0', '(10 more: see manifest.json)']);
  });

  test('a suspect one says so first, and why', () => {
    const guide = renderRestoreGuide(backup(1, { suspicions: ['lost `much` <b>'] }));
    expect(guide.slice(0, guide.indexOf('## With'))).toContain('**It is suspect**');
    expect(guide).toContain("- `lost 'much' <b>`\n");
  });

  test('names neither end a block nor reach the terminal', () => {
    const table = '```\n# pwned\u001b[31m';
    const guide = renderRestoreGuide(
      backup(1, { items: [item('postgres:db/`a`|b', { counts: counts({ [table]: 1 }) })] }),
    );
    expect(guide).not.toContain('\u001b');
    expect(headings(guide).join('\n')).not.toContain('pwned');
    expect(guide).toContain("`postgres:db/'a'\\|b`");
    expect(listBlocks(guide).find(({ language }) => language === 'text')?.text).toBe('``` # pwned [31m|1');
  });

  test.each<[string, Partial<Backup>]>([
    ['a project', { project: '$(id)' }],
    ['a line break in a database', { items: [item('postgres:db/app', { name: 'a\nb' })] }],
    ['an image that is an option', { items: [item('redis:cache', { image: '--privileged' })] }],
    ['a volume that is a path', { items: [item('volume:uploads', { name: '/' })] }],
    ['a file elsewhere', { items: [item('redis:cache', { file: '../../.env' })] }],
  ])('%s that no manifest may have is refused', (_name, over) => {
    expect(() => renderRestoreGuide(backup(1, over))).toThrow(RangeError);
  });
});
