/** From what happened to outputs and job summary. Pure. */
import type { SourceFreshness } from '#shared/backups/freshness';
import { describeSpan } from '#shared/backups/freshness';
import { SlipwayError } from '#shared/errors';
import { formatBytes } from '#shared/images/size';
import type { Backup } from '#shared/model/backup';
import type { Runner } from '#shared/ports';
import { escapeMarkdown, formatTable } from '#shared/reporters/markdown';
import { sumRows } from '#shared/vault/counts';
import type { Difference, Restored } from '#shared/vault/restore';
import type { Shelf } from '#shared/vault/shelf';

export type BackupResultWord =
  'proven' | 'taken' | 'suspect' | 'restored' | 'listed' | 'pruned' | 'fresh' | 'stale' | 'planned' | 'failed';

/** Filled while it goes on, so that a failure reports everything up to it. */
export interface BackupReport {
  result: BackupResultWord;
  where: string;
  project: string;
  backup: Backup | undefined;
  shelf: Shelf | undefined;
  removed: readonly string[];
  freshness: readonly SourceFreshness[];
  differences: readonly Difference[];
  restored: readonly Restored[];
  warnings: string[];
  /** Seconds by phase. */
  durations: Record<string, number>;
  failure?: unknown;
}

export function createReport(): BackupReport {
  return {
    result: 'failed',
    where: '',
    project: '',
    backup: undefined,
    shelf: undefined,
    removed: [],
    freshness: [],
    differences: [],
    restored: [],
    warnings: [],
    durations: {},
  };
}

/** What its proof took: a recovery takes that at least. 0 without one. */
export function sumProof({ items }: Backup): number {
  // Roles have the proof of their databases.
  return items.reduce((sum, { kind, proof }) => sum + (kind === 'roles' ? 0 : (proof?.seconds ?? 0)), 0);
}

/** The oldest among the newest proven ones; undefined where something has none. */
function findAge(freshness: readonly SourceFreshness[]): number | undefined {
  const ages = freshness.map(({ ageSeconds }) => ageSeconds);
  const known = ages.filter((age) => age !== undefined);
  return known.length === 0 || known.length < ages.length ? undefined : Math.max(...known);
}

/** @param redact since a job output that holds a masked value is dropped as a whole. */
export function setOutputs(
  report: BackupReport,
  runner: Pick<Runner, 'setOutput'>,
  redact: (text: string) => string,
): void {
  const { backup, shelf } = report;
  const json = (value: unknown): string => redact(JSON.stringify(value));
  runner.setOutput('backup', backup?.id ?? '');
  runner.setOutput('result', report.result);
  runner.setOutput('bytes', backup === undefined ? '' : String(sumBytes(backup)));
  runner.setOutput(
    'items',
    json(
      (backup?.items ?? []).map(({ source, bytes, counts, proof, offsite }) => ({
        source,
        bytes,
        rows: sumRows(counts),
        proven: proof !== undefined,
        offsite: offsite?.url ?? '',
      })),
    ),
  );
  // 0 would read as a wonderful recovery.
  runner.setOutput('recovery-seconds', backup?.result === 'proven' ? String(Math.ceil(sumProof(backup))) : '');
  const age = findAge(report.freshness);
  runner.setOutput('age-seconds', age === undefined ? '' : String(Math.round(age)));
  runner.setOutput(
    'backups',
    json(
      [...(shelf?.backups ?? []), ...(shelf?.foreign ?? [])].map((one) => ({
        id: one.id,
        server: one.server,
        created: one.created,
        result: one.result,
        bytes: sumBytes(one),
        release: one.release,
        encrypted: one.encrypted.length > 0,
        onServer: shelf?.here.has(one.id) === true,
        offsite: shelf?.elsewhere.has(one.id) === true,
      })),
    ),
  );
  runner.setOutput('removed', JSON.stringify(report.removed));
  runner.setOutput('differences', json(report.differences));
}

export function sumBytes({ items }: Backup): number {
  return items.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** One line of the list. */
export function describeBackup(backup: Backup, shelf: Shelf): string {
  const places = [
    shelf.here.has(backup.id) ? 'on the server' : '',
    shelf.elsewhere.has(backup.id) ? 'off-site' : '',
    shelf.foreign.includes(backup) ? `of ${backup.server}` : '',
  ];
  return `${backup.id}  ${backup.result.padEnd(7)}  ${formatBytes(sumBytes(backup)).padStart(9)}  ${places.filter((one) => one !== '').join(' and ')}${backup.encrypted.length > 0 ? ', encrypted' : ''}: ${backup.items.map(({ source }) => source).join(', ')}`;
}

const TITLES: Readonly<Record<BackupResultWord, string>> = {
  proven: 'Backed up, and proven',
  taken: 'Backed up; not all of it is proven',
  suspect: 'SUSPECT: too much has gone since the last backup',
  restored: 'Restored',
  listed: 'Backups',
  pruned: 'Old backups removed',
  fresh: 'Backups are fresh',
  stale: 'BACKUPS ARE TOO OLD',
  planned: 'Dry run; nothing was changed',
  failed: 'FAILED',
};

/** Tables that a summary shows. */
const LISTED = 200;

export function renderSummary(report: BackupReport): string {
  const { backup, shelf, failure } = report;
  const where = report.where === '' ? '' : ` on ${escapeMarkdown(report.where)}`;
  const parts = [
    `### ${TITLES[report.result]}${report.project === '' ? '' : `: ${escapeMarkdown(report.project)}`}${where}`,
  ];
  if (failure !== undefined) parts.push(renderFailure(failure));
  if (backup !== undefined) parts.push(renderBackup(backup));
  if (report.restored.length > 0) {
    parts.push(
      formatTable(
        ['Restored', 'Seconds', 'Nobody could use it for', 'What it replaced'],
        report.restored.map(({ source, seconds, downSeconds, kept }) => [
          source,
          seconds.toFixed(1),
          `${downSeconds} s`,
          kept,
        ]),
      ),
    );
  }
  if (report.differences.length > 0) {
    parts.push(
      formatTable(
        ['Table', 'Rows before', 'Rows in the backup'],
        report.differences
          .slice(0, LISTED)
          .map(({ source, table, now, then }) => [
            `${source}: ${table}`,
            String(now ?? 'not there'),
            String(then ?? 'not there'),
          ]),
      ),
    );
  }
  if (report.freshness.length > 0) {
    parts.push(
      formatTable(
        ['What', 'Newest proven backup', 'Age (what would be lost now)', 'A recovery takes at least', ''],
        report.freshness.map(({ source, backup: id, ageSeconds, proofSeconds, stale }) => [
          source,
          id ?? 'none',
          ageSeconds === undefined ? '' : describeSpan(ageSeconds),
          proofSeconds === undefined ? '' : describeSpan(proofSeconds),
          stale ? 'too old' : 'fresh',
        ]),
      ),
    );
  }
  if (
    shelf !== undefined &&
    (report.result === 'listed' || report.result === 'pruned' || report.result === 'planned')
  ) {
    parts.push(
      formatTable(
        ['Backup', 'Result', 'Size', 'Release', 'What', 'Where'],
        [...shelf.backups, ...shelf.foreign]
          .slice(0, LISTED)
          .map((one) => [
            one.id,
            one.result,
            formatBytes(sumBytes(one)),
            one.release,
            one.items.map(({ source }) => source).join(', '),
            [
              shelf.here.has(one.id) ? 'server' : '',
              shelf.elsewhere.has(one.id) ? 'off-site' : '',
              shelf.foreign.includes(one) ? one.server : '',
            ]
              .filter((place) => place !== '')
              .join(', '),
          ]),
      ),
    );
  }
  if (report.removed.length > 0) {
    parts.push(
      `${report.result === 'planned' ? 'Would be removed' : 'Removed'}: ${report.removed.map((id) => escapeMarkdown(id)).join(', ')}`,
    );
  }
  for (const warning of report.warnings) parts.push(`> ${escapeMarkdown(warning)}`);
  const durations = Object.entries(report.durations).map(([phase, seconds]) => `${phase} ${seconds.toFixed(1)} s`);
  if (durations.length > 0) parts.push(`<sub>${escapeMarkdown(durations.join(', '))}</sub>`);
  return `${parts.join('\n\n')}\n`;
}

function renderBackup(backup: Backup): string {
  const recovery = sumProof(backup);
  return [
    `**${escapeMarkdown(backup.id)}** (${formatBytes(sumBytes(backup))}${recovery > 0 ? `; restored in ${describeSpan(recovery)}, so a recovery takes that at least` : ''})`,
    ...backup.suspicions.map((one) => `> ${escapeMarkdown(one)}`),
    formatTable(
      ['What', 'Size', 'Rows, keys or files', 'Proven', 'Off-site'],
      backup.items.map(({ source, bytes, counts, proof, offsite }) => [
        source,
        formatBytes(bytes),
        Object.keys(counts).length === 0 ? '' : String(sumRows(counts)),
        proof === undefined ? 'no' : `in ${proof.seconds.toFixed(1)} s`,
        offsite === undefined ? '' : 'read back',
      ]),
    ),
  ].join('\n\n');
}

/** A summary over 1 MiB is dropped as a whole; the log has everything. */
const MAX_FAILURE_LENGTH = 50_000;

function renderFailure(failure: unknown): string {
  const message = failure instanceof Error ? failure.message : String(failure);
  const hint = failure instanceof SlipwayError ? failure.hint : '';
  const text = [message, hint]
    .filter((part) => part !== '')
    .join('\n')
    .slice(0, MAX_FAILURE_LENGTH);
  const ticks = '`'.repeat(Math.max(4, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return `${ticks}text\n${text}\n${ticks}`;
}
