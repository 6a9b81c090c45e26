/** Backups, readable aloud: inputs -> facts -> what is wanted -> report. */
import { chooseBackup } from '#shared/backups/choose';
import { judgeFreshness } from '#shared/backups/freshness';
import { MANIFEST_FILE, renderManifest } from '#shared/backups/manifest';
import { renderMetrics } from '#shared/backups/metrics';
import { writeFile, writePublicFile } from '#shared/commands/backup-store';
import { guessProjectName } from '#shared/engine/inputs';
import { type OpenProject, withProject } from '#shared/engine/project';
import { openGuardian, projectPath } from '#shared/engine/request';
import { type Phase, type SessionRequest, timed, warn } from '#shared/engine/transaction';
import { BackupError, InputError, ReleaseError, SlipwayError } from '#shared/errors';
import type { Guardian } from '#shared/guardian/client';
import { listHostSecrets } from '#shared/inputs/connection';
import { type Backup, judgeResult } from '#shared/model/backup';
import type { BackupPorts, Session } from '#shared/ports';
import { backupFolder, layoutBackups } from '#shared/releases/backup-layout';
import { layoutStore } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import { type Offsite, publish } from '#shared/vault/offsite';
import { proveAll } from '#shared/vault/prove';
import { compareWithNow, describeDifference, recover, restoreAll, selectItems, withFiles } from '#shared/vault/restore';
import { prune, readShelf, type Shelf } from '#shared/vault/shelf';
import { withClients } from '#shared/vault/remote';
import { findPostgresImage, selectSources } from '#shared/vault/sources';
import { keep, read, sweep, type TakeOptions } from '#shared/vault/take';
import { isDamage, ofChanges, type Vault } from '#shared/vault/vault';
import { type Inputs, judgeConfirmation, readInputs } from './inputs';
import { type BackupReport, createReport, describeBackup, renderSummary, setOutputs } from './report';

export async function run(ports: BackupPorts): Promise<void> {
  const { runner, clock, reporter } = ports;
  const startedMs = clock.monotonicMs();
  const report = createReport();
  try {
    await act(ports, report);
  } catch (error) {
    report.failure = error;
    report.result = report.result === 'suspect' || report.result === 'stale' ? report.result : 'failed';
    throw error;
  } finally {
    report.durations['total'] = (clock.monotonicMs() - startedMs) / 1000;
    setOutputs(report, runner, (text) => reporter.redact(text));
    await reporter.summary(renderSummary(report));
  }
}

interface Request extends SessionRequest {
  readonly inputs: Inputs;
}

/** One run on one server. */
interface Run {
  readonly request: Request;
  readonly session: Session;
  readonly ports: BackupPorts;
  readonly report: BackupReport;
  readonly phase: Phase;
  readonly offsite: Offsite | undefined;
}

async function act(ports: BackupPorts, report: BackupReport): Promise<void> {
  const { runner, reporter } = ports;
  const inputs = readInputs((name) => runner.input(name), ports.cipher);
  for (const secret of listSecrets(inputs)) reporter.hide(secret);
  const project = inputs.project || guessProjectName(runner.context.repository);
  if (project === '') {
    throw new InputError([
      { input: 'project', message: 'is empty, and the repository gives no name: give the Compose project.' },
    ]);
  }
  judgeConfirmation(inputs, project);
  report.project = project;
  const phase = { ports, report };
  const offsite =
    inputs.storage === undefined
      ? undefined
      : { store: ports.openObjectStore(inputs.storage), prefix: inputs.storage.prefix };
  const session = await timed(phase, 'connect', () => ports.connect(inputs.host, { signal: ports.signal }));
  report.where = session.where;
  reporter.line(`Connected to ${session.where}.`);
  try {
    const one: Run = { request: { task: inputs.mode, project, inputs }, session, ports, report, phase, offsite };
    await MODES[inputs.mode](one);
  } finally {
    await session.close();
  }
}

const MODES: Readonly<Record<Inputs['mode'], (one: Run) => Promise<void>>> = {
  backup: backUp,
  restore,
  verify,
  list,
  prune: pruneOld,
  check,
};

function listSecrets({ host, identity, storage, databaseUrls }: Inputs): string[] {
  const key = identity?.reveal() ?? '';
  return [
    ...listHostSecrets(host),
    key,
    ...key
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line.startsWith('AGE-SECRET-KEY-')),
    storage?.secretAccessKey.reveal() ?? '',
    ...databaseUrls.flatMap(({ secrets }) => secrets.map((secret) => secret.reveal())),
  ].filter((secret) => secret !== '');
}

// --- opening -------------------------------------------------------------------------------------------------------------

function vaultOf(
  facts: Pick<ServerFacts, 'path'>,
  remote: Vault['remote'],
  { request, session, ports }: Run,
  signal = ports.signal,
): Vault {
  const { inputs, project } = request;
  const { clock, reporter, runner } = ports;
  return {
    project,
    layout: layoutBackups(layoutStore(facts.path)),
    session,
    remote,
    ports: { clock, reporter, runner, signal },
    limits: { stepSeconds: inputs.timeoutSeconds, memoryMegabytes: inputs.proofMemoryMegabytes },
    scratch: project,
  };
}

/** Work that may ask the PostgreSQL servers of the input `database-urls`. */
async function withServers<T>(
  { request }: Run,
  { containers }: Pick<ServerFacts, 'containers'>,
  vault: Vault,
  work: (vault: Vault) => Promise<T>,
): Promise<T> {
  const { databaseUrls, databaseImage } = request.inputs;
  return withClients(databaseUrls, databaseImage || findPostgresImage(containers), vault, work);
}

/**
 * The backups of a project have a lock of their own, which is held to the end. The project's is held only while data is read or restored, so
 * that a deploy does not wait for proofs and transfers. This one always comes first.
 *
 * @param work gets a signal that is aborted when a restore has taken the lock.
 */
async function withBackups<T>(
  one: Run,
  mode: 'yield' | 'preempt',
  work: (guardian: Guardian, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { request, session, ports, phase } = one;
  const { inputs, project } = request;
  const path = `${projectPath(request)}/.slipway/backups`;
  // No Compose project has a dot in its name.
  const own = { ...request, project: `${project}.backups`, inputs: { ...inputs, path } };
  const guardian = await timed(phase, 'lock', () =>
    openGuardian(session, own, { mode, waitSeconds: inputs.lockWaitSeconds }, ports),
  );
  const lost = new AbortController();
  guardian.committed.catch(() => {
    lost.abort();
  });
  try {
    if (!guardian.isLocked)
      throw new BackupError(
        `The lock of the backups cannot be taken: ${guardian.problem}`,
        `Look at ${path} on the server.`,
      );
    return await work(guardian, AbortSignal.any([ports.signal, lost.signal]));
  } catch (error) {
    throw await explainLoss(error, guardian, ports);
  } finally {
    await guardian.close();
  }
}

/** What a step says that was ended is only that; who took the lock is heard a moment later. */
const HEARD_SECONDS = 1;

async function explainLoss(error: unknown, guardian: Guardian, { signal, clock }: BackupPorts): Promise<unknown> {
  if (signal.aborted || error instanceof GaveWayError) return error;
  const heard = await Promise.race([
    guardian.committed.then(
      () => undefined,
      (reason: unknown) => reason,
    ),
    clock.sleep(HEARD_SECONDS),
  ]);
  return heard instanceof ReleaseError ? new GaveWayError(heard, error) : error;
}

/** Another session has taken the lock, and what was under way was ended for it. */
class GaveWayError extends BackupError {
  constructor({ message }: ReleaseError, cause: unknown) {
    super(`It was given up: ${message}`, 'Nothing half is left. Run it again when that one has ended.', { cause });
  }
}

function tellProblems({ problems }: Shelf, phase: Phase): void {
  for (const problem of problems) warn(phase, problem);
}

async function look(one: Run, work: (open: OpenProject, vault: Vault) => Promise<void>): Promise<void> {
  const { session, request, phase } = one;
  await withProject(session, request, { mode: 'look', waitSeconds: 0 }, phase, (open) =>
    work(open, vaultOf(open.facts, open.guardian, one)),
  );
}

// --- the modes -----------------------------------------------------------------------------------------------------------

async function backUp(one: Run): Promise<void> {
  const { request, session, ports, report, phase, offsite } = one;
  const { inputs } = request;
  const options: TakeOptions = {
    proves: inputs.proves,
    recipients: inputs.recipients,
    cipher: ports.cipher,
    offsite,
    collapseThreshold: inputs.collapseThreshold,
  };
  await withBackups(one, 'yield', async (guardian, signal) => {
    let facts: ServerFacts | undefined;
    try {
      const opening = { mode: 'yield', waitSeconds: inputs.lockWaitSeconds } as const;
      const draft = await withProject(session, request, opening, phase, async (open) => {
        facts = open.facts;
        const vault = vaultOf(facts, open.guardian, one, signal);
        await sweepAll(vault);
        const reachable = {
          servers: inputs.databaseUrls,
          image: inputs.databaseImage || findPostgresImage(facts.containers),
        };
        const reading = withServers(one, facts, vault, async (reaching) => {
          await takeBackInterrupted(open, reaching, phase);
          const { backups } = await readShelf(undefined, reaching);
          const selection = selectSources(inputs.what, open.facts, reachable);
          for (const warning of selection.warnings) warn(phase, warning);
          return timed(phase, 'read', () => read(selection, open.facts, backups, options, reaching));
        });
        return reading.catch(async (error: unknown) => {
          throw await explainLoss(error, open.guardian, ports);
        });
      });
      if (facts === undefined) return;
      const vault = vaultOf(facts, guardian, one, signal);
      const before = await readShelf(offsite, vault);
      tellProblems(before, phase);
      const { backup, problem } = await timed(phase, 'keep', () =>
        withServers(one, draft, vault, (reaching) => keep(draft, before.backups, options, reaching)),
      );
      report.backup = backup;
      report.result = backup.result;
      ports.reporter.line(`Backup ${backup.id} is ${backup.result}.`);
      if (problem !== undefined) throw problem;
      if (backup.result === 'suspect') {
        throw new BackupError(
          `Backup ${backup.id} has lost too much against the last proven one:\n${backup.suspicions.map((text) => `- ${text}`).join('\n')}`,
          'It is kept as suspect, and so are all older ones. If that loss is right, run this once with a higher `collapse-threshold` (100% accepts everything).',
        );
      }
      await pruneShelf(one, await readShelf(offsite, vault), facts, backup.result, vault);
      await writeMetrics(one, true, vault);
    } catch (error) {
      if (facts !== undefined) await writeMetrics(one, false, vaultOf(facts, guardian, one));
      throw error;
    }
  });
}

async function pruneShelf(
  { request, report, ports, offsite }: Run,
  shelf: Shelf,
  { releases }: Pick<ServerFacts, 'releases'>,
  run: Backup['result'] | 'none',
  vault: Vault,
): Promise<void> {
  const { keepDays, keepCount, dryRun, maxAgeSeconds } = request.inputs;
  const retention = { days: keepDays, minimum: keepCount, now: ports.clock.now(), run };
  const plan = await prune(shelf, retention, releases, offsite, vault, dryRun);
  report.removed = plan.remove.map(({ id }) => id);
  report.shelf = { ...shelf, backups: dryRun ? shelf.backups : plan.keep.map(({ backup }) => backup) };
  report.freshness = judgeFreshness(report.shelf.backups, maxAgeSeconds, ports.clock.now());
}

/** What monitoring hears of. That it cannot is a warning: the backup is there. */
async function writeMetrics({ request, phase, ports, offsite }: Run, succeeded: boolean, vault: Vault): Promise<void> {
  const { metricsFile } = request.inputs;
  if (metricsFile === '' || ports.signal.aborted) return;
  try {
    const { backups } = await readShelf(offsite, vault).catch(() => readShelf(undefined, vault));
    const text = renderMetrics(request.project, backups, { ended: ports.clock.now(), succeeded });
    await vault.remote.run(writePublicFile(metricsFile, text), { purpose: 'write the metrics' });
  } catch (error) {
    if (!(error instanceof SlipwayError)) throw error;
    warn(phase, `${error.message} The user of the login must be able to write to the folder of \`metrics-file\`.`);
  }
}

async function list(one: Run): Promise<void> {
  const { report, ports, phase, offsite, request } = one;
  await look(one, async (_, vault) => {
    const shelf = await readShelf(offsite, vault);
    tellProblems(shelf, phase);
    report.shelf = shelf;
    report.freshness = judgeFreshness(shelf.backups, request.inputs.maxAgeSeconds, ports.clock.now());
    report.result = 'listed';
    await ports.reporter.group(`${shelf.backups.length} backups`, () => {
      for (const backup of [...shelf.backups, ...shelf.foreign]) ports.reporter.remote(describeBackup(backup, shelf));
      return Promise.resolve();
    });
  });
}

async function check(one: Run): Promise<void> {
  const { report, ports, phase, offsite, request } = one;
  const { maxAgeSeconds, only } = request.inputs;
  await look(one, async (_, vault) => {
    const shelf = await readShelf(offsite, vault);
    tellProblems(shelf, phase);
    report.shelf = shelf;
    const required = only.length === 0 ? undefined : only;
    report.freshness = judgeFreshness(shelf.backups, maxAgeSeconds, ports.clock.now(), required);
    for (const { words } of report.freshness) ports.reporter.line(words);
    const stale = report.freshness.filter((source) => source.stale);
    if (stale.length === 0 && report.freshness.length > 0) {
      report.result = 'fresh';
      return;
    }
    report.result = 'stale';
    throw new BackupError(
      report.freshness.length === 0
        ? `Project ${request.project} has no backups on ${vault.session.where}.`
        : stale.map(({ words }) => words).join('\n'),
      'Look at the runs of the workflow that takes the backups: has it failed, or is its schedule switched off? (GitHub does that after 60 days without a commit.)',
    );
  });
}

async function pruneOld(one: Run): Promise<void> {
  const { request, report, phase, offsite } = one;
  await withBackups(one, 'yield', async (guardian, signal) => {
    await look(one, async ({ facts }) => {
      const vault = vaultOf(facts, guardian, one, signal);
      if (!request.inputs.dryRun) await sweep(vault);
      const shelf = await readShelf(offsite, vault);
      tellProblems(shelf, phase);
      await pruneShelf(one, shelf, facts, 'none', vault);
      report.result = request.inputs.dryRun ? 'planned' : 'pruned';
    });
  });
}

function choose(one: Run, shelf: Shelf, instead: string): Backup {
  const { request, phase, ports, report } = one;
  tellProblems(shelf, phase);
  const choice = chooseBackup(request.inputs.backup || instead, shelf.backups, shelf.foreign);
  if ('problem' in choice) throw new BackupError(choice.problem, 'Nothing was changed.');
  const { backup } = choice;
  report.backup = backup;
  ports.reporter.line(
    `Backup ${backup.id} (${backup.result}), of ${backup.created}, while release ${backup.release || '(none)'} served.`,
  );
  if (shelf.foreign.includes(backup)) warn(phase, `Backup ${backup.id} was taken on another server: ${backup.server}.`);
  return backup;
}

/** How a suspicion begins that does not come from the data that was lost. */
const FOUND = 'It could not be restored';

async function verify(one: Run): Promise<void> {
  const { request, report, ports, phase, offsite } = one;
  const { identity } = request.inputs;
  await withBackups(one, 'yield', async (guardian, signal) => {
    await look(one, async ({ facts }) => {
      const vault = vaultOf(facts, guardian, one, signal);
      await sweep(vault);
      const shelf = await readShelf(offsite, vault);
      const backup = choose(one, shelf, 'latest');
      const items = selectItems(backup, request.inputs.only);
      const options = { identity, cipher: ports.cipher, offsite };
      try {
        const proven = await timed(phase, 'verify', () =>
          withServers(one, facts, vault, (reaching) =>
            withFiles(backup, items, shelf, options, reaching, (folder) =>
              proveAll(items, folder, facts.containers, reaching),
            ),
          ),
        );
        report.backup = await rewrite(one, shelf, vault, {
          ...backup,
          // It could be restored after all, whatever an earlier try has found.
          suspicions: backup.suspicions.filter((text) => !text.startsWith(FOUND)),
          items: backup.items.map((item) => proven.find(({ source }) => source === item.source) ?? item),
        });
      } catch (error) {
        if (signal.aborted || !isDamage(error) || !(error instanceof BackupError)) throw error;
        // Nobody may rely on it from now on.
        const found = `${FOUND} (${ports.clock.now().toISOString().slice(0, 10)}): ${firstLine(error.message)}`;
        report.backup = await rewrite(one, shelf, vault, { ...backup, suspicions: [...backup.suspicions, found] });
        report.result = 'suspect';
        throw error;
      }
      report.result = report.backup.result;
      ports.reporter.line(`Backup ${backup.id} is ${report.result}.`);
    });
  });
}

function firstLine(text: string): string {
  return (text.split('\n')[0] ?? '')
    .replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, ' ')
    .slice(0, 500);
}

/** What is known of a backup now. */
async function rewrite(one: Run, shelf: Shelf, vault: Vault, backup: Backup): Promise<Backup> {
  const judged: Backup = { ...backup, result: judgeResult(backup.items, backup.suspicions) };
  const manifest = renderManifest(judged);
  if (shelf.here.has(backup.id)) {
    await vault.remote.run(writeFile(`${backupFolder(vault.layout, backup.id)}/${MANIFEST_FILE}`, manifest), {
      purpose: 'note what is known of the backup now',
    });
  }
  // What was read is the copy on the server, where there is one: that it is damaged says nothing of the other.
  const isOther = judged.result === 'suspect' && shelf.here.has(backup.id);
  if (one.offsite !== undefined && shelf.elsewhere.has(backup.id) && !isOther) {
    await publish(backup.id, { manifest }, one.offsite, vault);
  }
  return judged;
}

/** For who has the lock of the project, too. */
async function sweepAll(vault: Vault): Promise<void> {
  await sweep(vault);
  await sweep(ofChanges(vault));
}

async function takeBackInterrupted({ facts }: OpenProject, vault: Vault, phase: Phase): Promise<void> {
  if (await recover(facts, vault)) {
    warn(phase, 'A restore had been interrupted: what it had begun was taken back first.');
  }
}

async function restore(one: Run): Promise<void> {
  const { request, session, report, ports, phase, offsite } = one;
  const { inputs } = request;
  const restoreFrom = async ({ facts }: OpenProject, vault: Vault): Promise<void> => {
    const shelf = await readShelf(offsite, vault);
    const backup = choose(one, shelf, 'latest-proven');
    const items = selectItems(backup, inputs.only);
    report.differences = await timed(phase, 'compare', () => compareWithNow(items, facts.containers, vault));
    await ports.reporter.group('Against what there is now', () => {
      for (const difference of report.differences) ports.reporter.remote(describeDifference(difference));
      if (report.differences.length === 0) ports.reporter.line('every table has as many rows as in the backup');
      return Promise.resolve();
    });
    if (inputs.dryRun) {
      report.result = 'planned';
      ports.reporter.line(
        `Dry run: ${items.map(({ source }) => source).join(', ')} would be restored. Nothing was changed.`,
      );
      return;
    }
    const options = { files: inputs.files, identity: inputs.identity, cipher: ports.cipher, offsite };
    report.restored = await timed(phase, 'restore', () =>
      withFiles(
        backup,
        items,
        shelf,
        options,
        vault,
        (folder) =>
          ports.reporter.group(`Restore ${backup.id}`, () => restoreAll(items, folder, options, facts, vault)),
        (why) => {
          warn(phase, `${why}\nThe copy off-site is restored instead.`);
        },
      ),
    );
    report.result = 'restored';
    ports.reporter.line(`Restored from backup ${backup.id}.`);
  };
  if (inputs.dryRun) {
    await look(one, (open, vault) => withServers(one, open.facts, vault, (reaching) => restoreFrom(open, reaching)));
    return;
  }
  // A backup that is under way gives way; a deploy is waited for.
  await withBackups(one, 'preempt', async (_, signal) => {
    const opening = { mode: 'change', waitSeconds: inputs.lockWaitSeconds } as const;
    await withProject(session, request, opening, phase, async (open) => {
      await withServers(one, open.facts, vaultOf(open.facts, open.guardian, one, signal), async (vault) => {
        await sweepAll(vault);
        await takeBackInterrupted(open, vault, phase);
        await restoreFrom(open, vault);
      });
    });
  });
}
