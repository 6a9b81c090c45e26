/** `RESTORE.md`: how somebody gets the data back who has this folder, a shell, Docker, and no Slipway. Pure. */
import type { Backup, BackupItem, BackupKind } from '../model/backup';
import { excerpt } from '../shell/excerpt';
import { quoteWord } from '../shell/render';
import { namePlainFile, RELEASE, renderChecksums, renderManifest } from './manifest';

/** Files first: without them nothing can be started. Roles before the databases that they own. */
const ORDER: readonly BackupKind[] = ['files', 'volume', 'roles', 'postgres', 'redis'];

/** Tables that are listed with what they must have; the manifest has all. */
const LISTED_TABLES = 50;

/**
 * The commands are constants of ours. What varies (names of databases, services, volumes) stands in assignments only, each quoted as
 * one word, and is used as a quoted variable; so no name can become a command, whoever chose it.
 *
 * @throws RangeError for a backup that no manifest can say: its names could do more than name.
 */
export function renderRestoreGuide(backup: Backup): string {
  renderManifest(backup);
  const items = [...backup.items].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
  const packed = items.filter(({ file }) => file !== namePlainFile({ file }));
  const sections = [
    describeChecks(items),
    ...(packed.length === 0 ? [] : [describeUnpacking(backup, packed)]),
    ...items.map((item, index) => ({
      title: titleOf(item),
      body: describeItem(backup, item, index + 1),
    })),
  ];
  return [
    `# How to restore ${backup.project} from ${backup.id}`,
    describeBackup(backup),
    '## With Slipway',
    `This step of a workflow does all of it, and keeps the old data. With \`dry-run: true\` it only says what it would do.`,
    fence('yaml', renderStep(backup)),
    '## By hand',
    `You need a shell on the server, Docker, and this folder. Take the steps in their order, and only those whose data is lost. Each block in
parentheses stops at its first error: then nothing after it was done. Copy whole blocks; variables of one are used by the next.`,
    '### What is in this folder',
    ['| file | what | bytes | proven |', '| --- | --- | --- | --- |', ...items.map(renderRow)].join('\n'),
    '`manifest.json` says the same for programs: versions, checksums, and the rows of every table.',
    ...sections.flatMap(({ title, body }, index) => [`### ${index + 1}. ${title}`, ...body]),
    '',
  ].join('\n\n');
}

interface Section {
  readonly title: string;
  readonly body: readonly string[];
}

const WORDS: Readonly<Record<Backup['result'], string>> = {
  proven: 'It is **proven**: all of it was restored once, and compared with what it was taken from.',
  taken: 'It is complete, but **not all of it is proven**: see the table below.',
  suspect:
    '**It is suspect**: so much was missing that the source may have been damaged before. Look for an older one first.',
};

function describeBackup(backup: Backup): string {
  return [
    `Taken at ${backup.created} by ${show(backup.actor)}, while release ${show(backup.release)} served: ${show(backup.runUrl)}`,
    '',
    WORDS[backup.result],
    ...backup.suspicions.map((reason) => `- ${show(reason)}`),
  ].join('\n');
}

function renderStep({ id, project, encrypted, items }: Backup): string {
  const isRemote = items.some(({ kind, service }) => kind === 'postgres' && service === '');
  return [
    '- uses: your-org/slipway/action-backup@v1',
    '  with:',
    '    # As in the workflow that takes the backups.',
    '    host: shop.example.com',
    '    ssh-key: ${{ secrets.SSH_KEY }}',
    '    known-hosts: ${{ vars.SSH_KNOWN_HOSTS }}',
    `    project: ${JSON.stringify(project)}`,
    '    mode: restore',
    `    backup: ${JSON.stringify(id)}`,
    ...(encrypted.length === 0 ? [] : ['    age-key: ${{ secrets.AGE_KEY }}']),
    ...(isRemote ? ['    database-urls: ${{ secrets.DATABASE_URLS }}'] : []),
    `    confirm: ${JSON.stringify(project)}`,
  ].join('\n');
}

function renderRow(item: BackupItem): string {
  const proven = item.proof === undefined ? 'no' : `${item.proof.at}, in ${Math.ceil(item.proof.seconds)} s`;
  const elsewhere = item.offsite === undefined ? '' : `; also at ${showCell(item.offsite.url)}`;
  return `| \`${item.file}\` | ${showCell(item.source)}${elsewhere} | ${item.bytes} | ${proven} |`;
}

function describeChecks(items: readonly BackupItem[]): Section {
  return {
    title: 'Check the files',
    body: [
      'In this folder. Every line must end in `OK`; do not go on with a file that does not.',
      fence('sh', `sha256sum -c <<'END'\n${renderChecksums(items)}END`),
    ],
  };
}

function describeUnpacking(backup: Backup, packed: readonly BackupItem[]): Section {
  const encrypted = backup.encrypted.length > 0;
  const identity = 'identity=/path/to/the/key.txt';
  const lines = packed.flatMap((item) => {
    const stored = quoteWord(item.file);
    const compressed = quoteWord(item.file.replace(/\.age$/, ''));
    const plain = quoteWord(namePlainFile(item));
    const source = encrypted ? `plain/${compressed}` : stored;
    return [
      ...(encrypted ? [`age --decrypt --identity "$identity" --output plain/${compressed} ${stored}`] : []),
      ...(item.compression === 'none'
        ? []
        : [`${item.compression === 'gzip' ? 'gzip' : 'zstd'} -dc ${source} >plain/${plain}`]),
    ];
  });
  const checks = renderChecksums(packed.map((item) => ({ file: namePlainFile(item), sha256: item.plainSha256 })));
  return {
    title: encrypted ? 'Decrypt them' : 'Decompress them',
    body: [
      ...(encrypted
        ? [
            'The files are encrypted with age (https://age-encryption.org; `apt-get install age`). Each of these public keys has a private one ' +
              'that opens all files; neither the server nor GitHub needs to have it:',
            backup.encrypted.map((recipient) => `- ${show(recipient)}`).join('\n'),
            'Put the path of the private key where it says so. Again every line must end in `OK`.',
          ]
        : ['Every line must end in `OK`.']),
      fence(
        'sh',
        [
          ...(encrypted ? [identity] : []),
          '(',
          'set -eu',
          'umask 077',
          'mkdir -p plain',
          ...lines,
          'cd plain',
          `sha256sum -c <<'END'\n${checks}END`,
          ')',
        ].join('\n'),
      ),
      ...(encrypted
        ? ['Remove the folder `plain` when you are done: what is in it can be read by whoever reads the disk.']
        : []),
    ],
  };
}

function titleOf({ kind, source }: BackupItem): string {
  switch (kind) {
    case 'postgres':
      return `PostgreSQL: ${show(source)}`;
    case 'roles':
      return `PostgreSQL, roles: ${show(source)}`;
    case 'redis':
      return `Redis: ${show(source)}`;
    case 'files':
      return `Files: ${show(source)}`;
    case 'volume':
      return `Volume: ${show(source)}`;
  }
}

/** @param number of the item, so that names that are made up for it differ from those for another. */
function describeItem(backup: Backup, item: BackupItem, number: number): string[] {
  const mark = `${backup.id.slice(backup.id.indexOf('-') + 1)}_${number}`;
  switch (item.kind) {
    case 'postgres':
      return describePostgres(backup, item, mark);
    case 'roles':
      return describeRoles(backup, item);
    case 'redis':
      return describeRedis(backup, item, mark);
    case 'files':
      return describeFiles(item, mark);
    case 'volume':
      return describeVolume(item, mark);
  }
}

/** `name=word` lines. The only place of the guide where something stands that others chose. */
function assign(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${quoteWord(value)}`)
    .join('\n');
}

function readableFile(item: BackupItem): string {
  const plain = namePlainFile(item);
  return item.file === plain ? plain : `plain/${plain}`;
}

const FIND_CONTAINER = `container=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False | head -n 1)
[ -n "$container" ] || echo "no container of $service runs: start it first"`;

const FIND_STOPPED = FIND_CONTAINER.replace('docker ps', 'docker ps --all').replace(
  'runs: start it first',
  'is there: create it first',
);

/** Both answer to `run PROGRAM...`, with the program's standard input. */
const RUN_IN_CONTAINER = `${FIND_CONTAINER}
run() { docker exec --interactive --env PGPASSWORD "$container" "$@"; }`;
const RUN_AT_URL = `export PGHOST=the-database-server PGPORT=5432
run() { docker run --rm --interactive --network host --env PGHOST --env PGPORT --env PGPASSWORD "$image" "$@"; }`;

function introducePostgres(backup: Backup, item: BackupItem, more: Readonly<Record<string, string>>): string[] {
  const { service, user, image } = item;
  const file = readableFile(item);
  const inProject = service !== '';
  return [
    inProject
      ? `Server ${show(item.versions.server)}, in the project's service. It must run; the others that use it should be stopped. If it wants a password: \`export PGPASSWORD=...\` first.`
      : `Server ${show(item.versions.server)}, which is not one of the project: write its name and port, and \`export PGPASSWORD=...\` first.`,
    fence(
      'sh',
      inProject
        ? `${assign({ project: backup.project, service, user, file, ...more })}\n${RUN_IN_CONTAINER}`
        : `${assign({ image, user, file, ...more })}\n${RUN_AT_URL}`,
    ),
  ];
}

/** Counts exactly, one line a table, as the backup did: each row where it is stored, so a partitioned table has none of its own. */
const COUNT_ROWS = `run psql --username="$user" --dbname="$restored" --no-psqlrc --set=ON_ERROR_STOP=1 --tuples-only --no-align <<'END'
SELECT format('SELECT %L, count(*) FROM ONLY %I.%I', schemaname || '.' || tablename, schemaname, tablename)
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY schemaname, tablename \\gexec
END`;

const SWAP_PSQL = `run psql --username="$user" --dbname="$maintenance" --no-psqlrc --set=ON_ERROR_STOP=1 --set=name="$database" --set=restored="$restored" --set=before="$before" <<'END'`;

const SWAP_IN = `${SWAP_PSQL}
SELECT EXISTS (SELECT FROM pg_database WHERE datname = :'name') AS there \\gset
\\if :there
  SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = :'name' \\gset
  ALTER DATABASE :"restored" OWNER TO :"owner";
  ALTER DATABASE :"name" WITH ALLOW_CONNECTIONS false;
  SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN (:'name', :'restored');
  BEGIN;
  ALTER DATABASE :"name" RENAME TO :"before";
  ALTER DATABASE :"restored" RENAME TO :"name";
  COMMIT;
  ALTER DATABASE :"before" WITH ALLOW_CONNECTIONS true;
\\else
  ALTER DATABASE :"restored" RENAME TO :"name";
\\endif
END`;

const SWAP_BACK = `${SWAP_PSQL}
SELECT EXISTS (SELECT FROM pg_database WHERE datname = :'before') AS swapped \\gset
\\if :swapped
  ALTER DATABASE :"name" WITH ALLOW_CONNECTIONS false;
  SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN (:'name', :'before');
  BEGIN;
  ALTER DATABASE :"name" RENAME TO :"restored";
  ALTER DATABASE :"before" RENAME TO :"name";
  COMMIT;
  ALTER DATABASE :"restored" WITH ALLOW_CONNECTIONS true;
\\endif
ALTER DATABASE :"name" WITH ALLOW_CONNECTIONS true;
END`;

function describePostgres(backup: Backup, item: BackupItem, mark: string): string[] {
  const names = {
    database: item.name,
    // A database cannot be renamed from within, so another one is connected to.
    maintenance: item.name === 'postgres' ? 'template1' : 'postgres',
    // Names of ours: --dbname would read `host=...` as a connection string.
    restored: `slipway_restore_${mark}`,
    before: `slipway_before_${mark}`,
  };
  return [
    ...introducePostgres(backup, item, names),
    'Restore into a new database. What serves is not touched. (Never restore into the live one: rows would be there twice.)',
    fence(
      'sh',
      `(
set -eu
run dropdb --if-exists --username="$user" --maintenance-db="$maintenance" "$restored"
run createdb --username="$user" --maintenance-db="$maintenance" --template=template0 "$restored"
run pg_restore --username="$user" --dbname="$restored" --exit-on-error <"$file"
echo "restored into $restored"
)`,
    ),
    'It must have said `restored into`. Now count its rows:',
    fence('sh', COUNT_ROWS),
    ...expectCounts(item),
    'Swap it in. Sessions of the old one are ended; it stays as it is, under another name.',
    fence('sh', SWAP_IN),
    'Start what you stopped, and look at it. If the swap failed half-way, or was wrong, this goes back:',
    fence('sh', SWAP_BACK),
    'When all is well, and no sooner, drop the old one:',
    fence('sh', 'run dropdb --username="$user" --maintenance-db="$maintenance" "$before"'),
  ];
}

function describeRoles(backup: Backup, item: BackupItem): string[] {
  return [
    'Only where roles are missing, as on a new server. It says `already exists` for each that is there, which is no harm; but it sets the ' +
      'passwords of all of them to those of the backup.',
    ...introducePostgres(backup, item, {}),
    fence('sh', 'run psql --username="$user" --dbname=postgres --no-psqlrc <"$file"'),
  ];
}

/** What is in the way goes aside; says whether there was an append-only file, by which a server would start empty of the RDB's data. */
const PLACE_RDB = `(
set -eu
docker stop "$container"
docker run --rm --interactive --network none --user 0 --volumes-from "$container" --env "dir=$dir" --env "rdb=$rdb" --env "before=$before" --entrypoint sh "$image" -c '
  set -eu
  cd "$dir"
  mkdir "$before"
  for old in appendonlydir appendonly.aof "$rdb"; do [ ! -e "$old" ] || mv "$old" "$before/"; done
  cat >"$rdb"
  chown "$(stat -c %u:%g .)" "$rdb"
  sync
' <"$file"
echo "placed $rdb"
)`;

const WRITE_AOF = `(
set -eu
alive() { [ "$(docker inspect --format '{{.State.Running}}' "$helper")" = true ] || { docker logs "$helper"; exit 1; }; }
docker run --detach --name "$helper" --network none --volumes-from "$container" "$image" redis-server --dir "$dir" --dbfilename "$rdb" --appendonly no --save ''
until docker exec "$helper" redis-cli PING | grep PONG; do alive; sleep 1; done
docker exec "$helper" redis-cli INFO keyspace
docker exec "$helper" redis-cli -e CONFIG SET appendonly yes
until docker exec "$helper" redis-cli INFO persistence | tr -d '\\r' | grep -E '^aof_rewrite_(in_progress|scheduled):0$' | grep -c . | grep -q 2; do alive; sleep 1; done
docker exec "$helper" redis-cli INFO persistence | grep aof_last_bgrewrite_status:ok
docker stop "$helper"
docker rm "$helper"
echo "wrote the append-only file"
)`;

function describeRedis(backup: Backup, item: BackupItem, mark: string): string[] {
  return [
    `Server ${show(item.versions.server)}. A running Redis does not read a file that is put under it, and writes its memory over it when it is stopped. And one
with \`appendonly yes\` reads its append-only file and never the RDB. So: stop it, put everything else aside, place the RDB, let a Redis without
append-only read it and write a new append-only file, and only then start the service. Keep this order.`,
    'Its container must be there, running or not. Change `dir` and `rdb` where its configuration has another `dir` or `dbfilename`. If it has another `appendfilename` or `appenddirname`, move these aside by hand.',
    fence(
      'sh',
      `${assign({ project: backup.project, service: item.service, file: readableFile(item), before: `slipway-before-${mark}`, helper: `slipway-restore-${mark}` })}
dir=/data
rdb=dump.rdb
${item.service === '' ? 'container=the-name-of-its-container' : FIND_STOPPED}
image=$(docker inspect --format '{{.Image}}' "$container")`,
    ),
    fence('sh', PLACE_RDB),
    'It must have said `placed`. Where the service has `appendonly yes` (its command or its configuration says so), and only there:',
    fence('sh', WRITE_AOF),
    'It must have said `wrote the append-only file`. If it did not, the service must stay stopped. Now start it:',
    fence('sh', 'docker start "$container"\ndocker exec --env REDISCLI_AUTH "$container" redis-cli INFO keyspace'),
    ...expectCounts(item),
    `What was there before is in its data folder, in \`slipway-before-${mark}\`; remove it when all is well.`,
  ];
}

function describeFiles(item: BackupItem, mark: string): string[] {
  return [
    item.source === RELEASE
      ? 'The release that served: its Compose file, its environment (secret), and the files that it mounts. Into a folder beside, to look at it. Paths in it are relative to the store of releases, which is two up from here while this is on its server.'
      : 'Into a folder beside, to look at it. Paths in it are relative to the folder of the project, which is three up from here while this is on its server.',
    fence(
      'sh',
      `${assign({ file: readableFile(item), restored: `restored-${mark}` })}
folder=${item.source === RELEASE ? '../..' : '../../..'}
(
set -eu
umask 077
mkdir "$restored"
tar -xpf "$file" -C "$restored"
echo "unpacked into $restored"
)`,
    ),
    'Then copy what you need, or all of it:',
    fence('sh', 'cp -a "$restored/." "$folder/"'),
  ];
}

function describeVolume(item: BackupItem, mark: string): string[] {
  return [
    'Containers that use the volume are stopped, and started again at the end. What is in it now is kept in `before.tar` of a new folder here.',
    fence(
      'sh',
      `${assign({ volume: item.name, image: item.image, file: readableFile(item), before: `before-${mark}` })}
(
set -eu
umask 077
tar -tf "$file" >/dev/null
mkdir "$before"
containers=$(docker ps --quiet --filter "volume=$volume")
[ -z "$containers" ] || docker stop $containers
docker run --rm --network none --user 0 --volume "$volume:/volume" --entrypoint tar "$image" -cpf - -C /volume . >"$before/before.tar"
docker run --rm --interactive --network none --user 0 --volume "$volume:/volume" --entrypoint sh "$image" -c '
  set -eu
  cd /volume
  rm -rf ./* ./.[!.]* ./..?*
  tar -xpf -
  sync
' <"$file"
[ -z "$containers" ] || docker start $containers
echo "restored $volume"
)`,
    ),
    'It must have said `restored`. To go back, do the same with `file` set to the `before.tar`, and `before` to another name.',
  ];
}

function expectCounts({ kind, counts }: BackupItem): string[] {
  const all = Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1));
  if (all.length === 0) return [];
  const lines = all
    .slice(0, LISTED_TABLES)
    .map(([name, { rows }]) => `${excerpt(name, 200)}${kind === 'redis' ? ':keys=' : '|'}${rows}`);
  const more = all.length > LISTED_TABLES ? [`(${all.length - LISTED_TABLES} more: see manifest.json)`] : [];
  return ['The backup has these:', fence('text', [...lines, ...more].join('\n'))];
}

/** A block whose end no name can forge. */
function fence(language: string, text: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const mark = '`'.repeat(longest + 1);
  return `${mark}${language}\n${text}\n${mark}`;
}

/** Text of others within a line, as code: neither Markdown nor HTML nor a terminal makes anything of it. */
function show(text: string): string {
  const shown = excerpt(text, 500).replaceAll('`', "'");
  return shown === '' ? 'unknown' : `\`${shown}\``;
}

/** In a table, a bar ends the cell, in code too. */
function showCell(text: string): string {
  return show(text).replaceAll('|', '\\|');
}
